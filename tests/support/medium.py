"""Small genuine media, made through the product's own ceremony, signing and writing, and ways to change one thing.

    medium = make_medium(tmp_path / "m", serial=3)
    medium.flip_bit("data/wheels/tiny-1.0-py3-none-any.whl")

Keys are made once per test run: `throwaway_ceremony()` is the default for every medium, so media of different serials
share a root. `make_medium(..., keys=throwaway_ceremony("other"))` is a stranger's medium.
"""

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]  # no __all__

from bundler import ceremony as ceremonies
from bundler.ceremony import Invitation
from bundler.gpghome import short_home
from bundler.metadata import canonical, signed_file
from bundler.onego import release_in_one_go
from bundler.plan import ReleasePlan
from bundler.signatory import Ceremony, Signatory
from bundler.volumechoice import VolumeChoice
from bundler.workfolder import WorkFolder
from media import layout
from media.bagit import parse_manifest, render_manifest
from media.canonical import dumps, loads
from media.clock import FixedClock
from media.digest import payload_digest, sha256_hex
from media.signers import detached_sign, generate_key, stop_agents, tuf_signer

MADE_AT = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
STALE_AFTER = "2027-11-20T08:00:00Z"
PEOPLE = (
    Invitation(id="alice", name="Alice Archer"),
    Invitation(id="bob", name="Bob Baker"),
    Invitation(id="carol", name="Carol Cook", roles=("release", "custody")),
)
MACHINE = {"profile": "cpu", "python": "3.11", "platform": "linux_x86_64", "glibc": "2.36", "cpu_flags": []}
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
        _MADE[recipe] = _make(Path(tempfile.mkdtemp(prefix="sl-media-", dir="/tmp")) / "m", recipe)
        atexit.register(shutil.rmtree, _MADE[recipe].folder.parent, ignore_errors=True)
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


def _make(folder: Path, recipe: _Recipe) -> SimulatedMedium:
    work = WorkFolder(root=folder / "work")
    payload = dict(recipe.files)
    plan = ReleasePlan(
        release=f"demo-{recipe.serial}",
        serial=recipe.serial,
        created="2026-11-20T07:00:00Z",
        stale_after=recipe.stale_after,
        sites=recipe.sites,
        targets=tuple(loads(recipe.machines)),
        kinds={path: kind_of(path) for path in payload},
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


@functools.cache
def throwaway_ceremony(environment: str = "demo", name: str = "") -> Ceremony:
    """Return a ceremony of alice, bob and carol that lasts for the test run; another one for every name."""
    return ceremonies.hold(_key_folder(name) / "c", PEOPLE, environment=environment)


@functools.cache
def ceremony_with_two_keys_of(person_id: str = "alice") -> Ceremony:
    """Return a ceremony whose root names two release keys of one person: python-tuf would count them as two."""
    folder = _key_folder(f"two-{person_id}") / "c"
    held = ceremonies.hold(folder, PEOPLE, environment="demo")
    root = Metadata[Root].from_bytes(held.chain[0]).signed
    with short_home(held.home_of(person_id)) as home:
        second = tuf_signer(home, generate_key(home, "Second Key", "second@throwaway.invalid")).public_key
    for role in ("targets", "snapshot", "timestamp"):
        root.add_key(second, role)
    described = root.unrecognized_fields["x-sealift-people"]
    next(each for each in described if each["id"] == person_id)["keys"]["release"].append(second.keyid)
    order = [keyid for each in described if "release" in each["roles"] for keyid in each["keys"]["release"]]
    for role in ("targets", "snapshot", "timestamp"):
        root.roles[role].keyids = order
    shutil.rmtree(folder / "root")
    signatures = []
    for person in held.people.with_role("root"):
        with short_home(held.home_of(person.id)) as home:
            signatures += Signatory(person=person, home=home).sign("root", canonical(root))
    return ceremonies.publish(folder, root, signatures, before=())


def _key_folder(name: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"sl-keys-{name}-", dir="/tmp"))
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:
            for home in folder.glob("c/people/*/gnupg"):
                stop_agents(home)
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return folder


def write_candidate(
    work: WorkFolder, plan: ReleasePlan, payload: Mapping[str, bytes], *, level: str = "answered-on-cpu"
) -> None:
    """Lay down what a build and a rehearsal leave in a work folder."""
    for name, data in payload.items():
        path = work.candidate / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    work.plan.write_bytes(plan.to_bytes())
    work.attest.mkdir()
    digest = payload_digest((name, len(data), sha256_hex(data)) for name, data in payload.items())
    predicates: dict[str, dict[str, Any]] = {
        "provenance": {"buildDefinition": {"buildType": "sealift/build/v1"}},
        "sbom": {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []},
        "scan": {"findings": []},
        "rehearsal": {"payload_digest": digest, "level": level, "at": "2026-11-20T07:30:00Z"},
    }
    for name, predicate in predicates.items():
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": plan.release, "digest": {"sha256": digest}}],
            "predicateType": f"sealift/{name}/v1",
            "predicate": predicate,
        }
        (work.attest / f"{name}.json").write_bytes(dumps(statement))


def tiny_payload(*, serial: int = 1, weights: bytes | None = None) -> dict[str, bytes]:
    """Return a payload of a few kilobytes with every kind of file, consistent by digests, naming one model `tiny`."""
    weights = bytes(range(256)) * 40 + serial.to_bytes(4, "big") if weights is None else weights
    template = b"{% for message in messages %}{{ message['content'] }}{% endfor %}"
    wheel = b"PK\x05\x06" + bytes(18)
    line = f"tiny==1.0 --hash=sha256:{sha256_hex(wheel)}\n".encode()
    names = {name: f"data/server/requirements-{name}.txt" for name in ("server", "engine-llama-cpp", "host")}
    model = "data/models/tiny"
    descriptor = {
        "format": 1,
        "name": "tiny",
        "version": f"1.{serial}",
        "engine": "llama.cpp",
        "environment": sha256_hex(line),
        "files": [
            {"path": f"{model}/tiny.gguf", "role": "weights", "sha256": sha256_hex(weights), "length": len(weights)}
        ],
        "chat_template": {"path": f"{model}/chat_template.jinja", "sha256": sha256_hex(template)},
        "system_prompt": "",
        "rules": [],
        "runtime": {"n_ctx": 512, "n_batch": 512, "n_seq_max": 1, "defaults": {"temperature": 0, "top_p": 1}},
        "quantization": "Q4_1",
        "license": "Apache-2.0",
        "context_tokens": 512,
    }
    facts = {
        "format": 1,
        "product": "sealift",
        "release": f"demo-{serial}",
        "serial": serial,
        "created": "2026-11-20T07:00:00Z",
        "models": [{"name": "tiny", "descriptor": f"{model}/descriptor.json", "evals": ["data/evals/tiny.jsonl"]}],
        "environments": names,
        "debs": ["data/debs/tiny_1.0_all.deb"],
    }
    return {
        "data/release.json": dumps(facts),
        f"{model}/tiny.gguf": weights,
        f"{model}/descriptor.json": dumps(descriptor),
        f"{model}/chat_template.jinja": template,
        f"{model}/LICENSE": b"Apache-2.0\n",
        f"{model}/provenance.json": dumps({"source": "made by the tests"}),
        "data/evals/tiny.jsonl": b'{"prompt":"2+2=","choices":["4","5"],"answer":0}\n',
        "data/wheels/tiny-1.0-py3-none-any.whl": wheel,
        **dict.fromkeys(names.values(), line),
        "data/host/systemd/tiny.service": b"[Service]\nExecStart=/bin/true\n",
        "data/host/ansible/site.yml": b"- hosts: all\n",
        "data/debs/tiny_1.0_all.deb": b"!<arch>\n",
        "data/debs/Packages": b"Package: tiny\n",
        "data/debs/Release": b"Suite: sealift\n",
    }


def kind_of(path: str) -> str:
    """Return the kind that the build gives a payload file."""
    top = path.split("/")[1]
    if top == "models":
        return "weights" if path.endswith((".gguf", ".safetensors")) else "model"
    kinds = {"wheels": "wheel", "debs": "deb", "server": "server", "host": "host", "evals": "eval"}
    return kinds.get(top, "release")


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
