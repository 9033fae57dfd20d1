"""Small genuine media, made through the product's own ceremony, signing and writing, and ways to change one thing.

    medium = make_medium(tmp_path / "m", serial=3)
    medium.flip_bit("data/wheels/tiny-1.0-py3-none-any.whl")

Keys are made once per test run: `throwaway_ceremony()` is the default for every medium, so media of different serials
share a root. `make_medium(..., keys=throwaway_ceremony("other"))` is a stranger's medium.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata

from appliance.throwaway import Throwaway
from bundler.gpghome import short_home
from bundler.metadata import canonical, signed_file
from bundler.onego import release_in_one_go
from bundler.signatory import Ceremony, Signatory
from bundler.volumechoice import VolumeChoice
from bundler.workfolder import WorkFolder
from media import layout
from media.bagit import parse_manifest, render_manifest
from media.canonical import dumps, loads
from media.clock import FixedClock
from media.digest import sha256_hex
from media.signers import detached_sign
from tests.support.candidate import MACHINE, STALE_AFTER, candidate_plan, kind_of, tiny_payload, write_candidate
from tests.support.throwaway import ceremony_with_two_keys_of, throwaway_ceremony

__all__ = [
    "MACHINE",
    "MADE_AT",
    "STALE_AFTER",
    "SimulatedMedium",
    "ceremony_with_two_keys_of",
    "make_medium",
    "throwaway_ceremony",
    "tiny_payload",
]

MADE_AT = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
_ALLOCATION = 4096


@dataclass(slots=True, kw_only=True)
class SimulatedMedium:
    """A sealed release on its volumes, and how to spoil it. Paths are relative to a volume's release/."""

    folder: Path
    volumes: list[Path]
    work: WorkFolder
    ceremony: Ceremony
    code: str
    release: str
    serial: int
    payload: dict[str, bytes] = field(repr=False)

    @property
    def root_json(self) -> bytes:
        """The first root, as a receiver pins it."""
        return self.ceremony.chain[0]

    @property
    def sheet(self) -> str:
        """The trust sheet's text."""
        return self.work.sheet.read_text("utf-8")

    def path(self, name: str, *, volume: int | None = None) -> Path:
        """Return where a file of release/ lies: on the volume given, else on the first that has it."""
        volumes = self.volumes if volume is None else [self.volumes[volume - 1]]
        return next(each / layout.RELEASE / name for each in volumes if (each / layout.RELEASE / name).exists())

    def flip_bit(self, name: str, *, offset: int = 0, bit: int = 0, volume: int | None = None) -> Path:
        """Flip one bit of a file; a negative offset counts from its end."""
        path = self.path(name, volume=volume)
        data = bytearray(path.read_bytes())
        data[offset] ^= 1 << bit
        path.write_bytes(data)
        return path

    def replace(self, name: str, data: bytes, *, volume: int | None = None) -> Path:
        """Replace a file's bytes."""
        path = self.path(name, volume=volume)
        path.write_bytes(data)
        return path

    def truncate(self, name: str, length: int, *, volume: int | None = None) -> Path:
        """Cut a file off."""
        path = self.path(name, volume=volume)
        os.truncate(path, length)
        return path

    def remove(self, name: str, *, volume: int | None = None) -> None:
        """Take a file away."""
        self.path(name, volume=volume).unlink()

    def add(self, name: str, data: bytes = b"extra\n", *, volume: int = 1) -> Path:
        """Add a file to release/ that nobody signed."""
        path = self.volumes[volume - 1] / layout.RELEASE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def add_litter(self, *, volume: int = 1) -> list[Path]:
        """Add what operating systems leave at a volume's root."""
        made = []
        for name in sorted(layout.LITTER):
            path = self.volumes[volume - 1] / name
            if name in {".DS_Store", "Thumbs.db"}:
                path.write_bytes(b"litter")
            else:
                path.mkdir()
                (path / "index").write_bytes(b"litter")
            made.append(path)
        return made

    def signature(self, person_id: str, *, volume: int = 1) -> Path:
        """Return the signature file of a person over a volume's tag manifest."""
        return self.path(layout.signature_name(self.fingerprint(person_id)), volume=volume)

    def fingerprint(self, person_id: str) -> str:
        """Return a person's release fingerprint."""
        return self.ceremony.person(person_id).fingerprint

    def drop_signature(self, person_id: str = "bob") -> None:
        """Take one person's signature off every volume."""
        for number in range(1, len(self.volumes) + 1):
            self.signature(person_id, volume=number).unlink()

    def sign_twice_as(self, person_id: str = "alice", *, instead_of: str = "bob") -> None:
        """Put a second signature of one person in the place of another's, under the other's name."""
        for number in range(1, len(self.volumes) + 1):
            other = self.signature(instead_of, volume=number)
            manifest = self.path(layout.TAG_MANIFEST, volume=number).read_bytes()
            other.write_bytes(self.sign_as(person_id, manifest))

    def sign_as(self, person_id: str, data: bytes) -> bytes:
        """Return a person's detached signature over any bytes."""
        with short_home(self.ceremony.home_of(person_id)) as home:
            return detached_sign(home, self.fingerprint(person_id), data)

    def reseal(self, *people: str) -> None:
        """Write manifests that fit what lies there now and have people sign them: only TUF can tell the difference."""
        for volume in self.volumes:
            release = volume / layout.RELEASE
            tags = parse_manifest((release / layout.TAG_MANIFEST).read_bytes())
            files = {path.relative_to(release).as_posix(): path for path in release.rglob("*") if path.is_file()}
            data = {name: sha256_hex(path.read_bytes()) for name, path in files.items() if name.startswith("data/")}
            (release / layout.MANIFEST).write_bytes(render_manifest(data))
            other = {
                name: sha256_hex(path.read_bytes())
                for name, path in files.items()
                if name in tags or name.split("/")[0] in {layout.METADATA, layout.ATTEST, layout.CHECK}
            }
            (release / layout.TAG_MANIFEST).write_bytes(render_manifest(other))
            for path in release.glob("*.sig"):
                path.unlink()
            manifest = (release / layout.TAG_MANIFEST).read_bytes()
            for person in people or ("alice", "bob"):
                name = layout.signature_name(self.fingerprint(person))
                (release / name).write_bytes(self.sign_as(person, manifest))
        first = self.volumes[0] / layout.RELEASE / layout.TAG_MANIFEST
        self.code = sha256_hex(first.read_bytes())

    def sign_roles_as(self, person_id: str) -> None:
        """Replace the signatures of targets, snapshot and timestamp by those of one person, then seal again."""
        names = (layout.targets_name(self.serial), layout.snapshot_name(self.serial), layout.TIMESTAMP)
        for name in names:
            signed = Metadata.from_bytes(self.path(name, volume=1).read_bytes()).signed
            with short_home(self.ceremony.home_of(person_id)) as home:
                own = Signatory(person=self.ceremony.person(person_id), home=home)
                data = signed_file(signed, own.sign("release", canonical(signed)))
            for number in range(1, len(self.volumes) + 1):
                self.replace(name, data, volume=number)
        self.reseal()

    def copy_to(self, folder: Path) -> "SimulatedMedium":
        """Return an independent copy, to spoil."""
        shutil.copytree(self.folder, folder)
        volumes = [folder / volume.name for volume in self.volumes]
        return replace(self, folder=folder, volumes=volumes, work=WorkFolder(root=folder / "work"))


def make_medium(
    folder: Path,
    *,
    serial: int = 1,
    sites: Sequence[str] = ("demo-clinic",),
    environment: str = "demo",
    stale_after: str = STALE_AFTER,
    files: Mapping[str, bytes] | None = None,
    keys: Ceremony | None = None,
    volumes: int = 2,
    level: str = "answered-on-cpu",
    machines: Sequence[Mapping[str, Any]] = (MACHINE,),
    checkpoints: Mapping[str, Any] | None = None,
    issue: int = 0,
    cut: bool = False,
) -> SimulatedMedium:
    """Return a genuine medium, sealed by alice and bob and read back. Equal arguments are signed once and copied.

    Args:
        folder: A folder of its own; the volumes are `folder/volume-1` and so on.
        serial: Its serial; the release is called `demo-SERIAL`.
        sites: For whom it is.
        environment: Of the root, when `keys` is not given.
        stale_after: The date people chose.
        files: The payload by path below release/; `tiny_payload()` if not given. Kinds follow from the paths.
        keys: Another ceremony than the one all media share.
        volumes: Onto how many volumes the payload is spread.
        level: What the rehearsal statement says.
        machines: The target machines.
        checkpoints: What the sender knows of sites' ledgers.
        issue: Raises the timestamp version for the same serial.
        cut: The first block of the weights, which must have two, lies on volume 1 and the rest on volume 2.
    """
    recipe = _Recipe(
        serial=serial,
        sites=tuple(sites),
        stale_after=stale_after,
        files=tuple(sorted((tiny_payload(serial=serial) if files is None else files).items())),
        keys=keys or throwaway_ceremony(environment),
        volumes=volumes,
        level=level,
        machines=dumps(list(machines)),
        checkpoints=dumps(dict(checkpoints or {})),
        issue=issue,
        cut=cut,
    )
    if recipe not in _MADE:
        # A run of tests that was killed removes nothing: the next one does.
        _FOLDERS.append(Throwaway("sl-media-", place=Path("/tmp")))
        _MADE[recipe] = _make(_FOLDERS[-1].path / "m", recipe)
    return _MADE[recipe].copy_to(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recipe:
    serial: int
    sites: tuple[str, ...]
    stale_after: str
    files: tuple[tuple[str, bytes], ...]
    keys: Ceremony = field(hash=False)
    volumes: int
    level: str
    machines: bytes
    checkpoints: bytes
    issue: int
    cut: bool


_MADE: dict[_Recipe, SimulatedMedium] = {}
_FOLDERS: list[Throwaway] = []


def _make(folder: Path, recipe: _Recipe) -> SimulatedMedium:
    work = WorkFolder(root=folder / "work")
    payload = dict(recipe.files)
    plan = candidate_plan(
        payload,
        serial=recipe.serial,
        stale_after=recipe.stale_after,
        sites=recipe.sites,
        targets=tuple(loads(recipe.machines)),
        checkpoints=loads(recipe.checkpoints),
        issue=recipe.issue,
    )
    write_candidate(work, plan, payload, level=recipe.level)
    numbers = range(1, recipe.volumes + 1)
    made = release_in_one_go(
        work,
        [folder / f"volume-{number}" for number in numbers],
        ceremony=recipe.keys,
        clock=FixedClock(at=MADE_AT),
        choice=VolumeChoice(
            rooms=_rooms(payload, recipe.volumes, cut=recipe.cut),
            seals={number: (f"S-{recipe.serial:04d}-{number}",) for number in numbers},
        ),
        place="Bundling room",
    )
    return SimulatedMedium(
        folder=folder,
        volumes=[folder / f"volume-{number}" for number in numbers],
        work=work,
        ceremony=recipe.keys,
        code=made.code,
        release=plan.release,
        serial=plan.serial,
        payload=payload,
    )


def _rooms(payload: Mapping[str, bytes], volumes: int, *, cut: bool) -> tuple[int, ...]:
    """Return room on each volume so that the payload needs exactly that many: files first, weights on the last."""
    if volumes == 1:
        return ()
    sizes = {path: -(-len(data) // _ALLOCATION) * _ALLOCATION for path, data in sorted(payload.items())}
    weights = sum(size for path, size in sizes.items() if kind_of(path) == "weights")
    files = [size for path, size in sizes.items() if kind_of(path) != "weights"]
    if cut:
        return (sum(files) + layout.BLOCK_BYTES, weights - layout.BLOCK_BYTES)
    each = -(-len(files) // (volumes - 1))
    return (*(sum(files[start : start + each]) for start in range(0, len(files), each)), weights)
