"""Checking written media with the product's own code, on the connected side: what a site's receiver will look at.

Signatures and the people behind them, the TUF metadata, the statements, every volume's lists, every byte, and custody.
With a ceremony folder the root is known; without one the medium's own root is used and the report says so, because a
medium can always vouch for itself. What only a site knows (serial, floor, its name) is not judged here.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.attest import role_of
from bundler.custody import chain
from bundler.measure import Progress, measure, no_progress, require_regular
from bundler.signatory import Ceremony
from bundler.signedmetadata import signed_release
from media import dsse, layout
from media.bagit import BagInfo, parse_bag_info, parse_manifest, require_bagit_txt
from media.custody import CustodyFacts
from media.digest import release_code, same, sha256_hex
from media.errors import (
    BadSignatureError,
    DigestMismatchError,
    ExtraFileError,
    MissingFileError,
    MissingVolumeError,
    UsageError,
    WrongVolumeError,
)
from media.openpgp import verify_detached
from media.people import Role
from media.release import Target
from media.volume import VolumeIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What holds about a set of volumes."""

    release: str
    serial: int
    sites: tuple[str, ...]
    stale_after: str
    code: str
    environment: str
    policy: str
    root_is_known: bool
    signers: tuple[str, ...]
    files: int
    bytes: int
    base: tuple[int, ...]
    custody: Mapping[int, CustodyFacts]
    litter: tuple[str, ...]
    not_given: tuple[int, ...] = ()
    """Numbers of the volumes that were not looked at; always none for a complete set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenVolume:
    path: Path
    info: BagInfo
    tags: Mapping[str, str]
    payload: Mapping[str, str]

    def read(self, name: str) -> bytes:
        return (self.path / layout.RELEASE / name).read_bytes()


def check(
    volumes: Sequence[Path],
    *,
    ceremony: Ceremony | None = None,
    code: str = "",
    some: bool = False,
    progress: Progress = no_progress,
) -> CheckReport:
    """Check a complete set of volumes, or some of one.

    Args:
        volumes: Where they are mounted, in any order.
        ceremony: The root that is trusted; without it the medium's own is taken, which proves only agreement.
        code: The release code on the trust sheet, if it is at hand.
        some: Volumes may be missing: each is judged alone, as after burning one disc. Without volume 1 the code is
            not known, since it is the digest of that volume's tag manifest.
        progress: Called with bytes done, bytes in all, and the file's name.

    Raises:
        SealiftError: The first thing that does not hold.
    """
    opened = sorted((_open(path) for path in volumes), key=lambda volume: volume.info.number)
    trusted = ceremony or Ceremony.from_chain(volumes[0], _chain(opened[0]))
    signers = _require_signed(opened, trusted)
    index, missing = _require_one_set(opened, some=some)
    _require_tags(opened)
    found = "" if 1 in missing else release_code(opened[0].read(layout.TAG_MANIFEST))
    if code and not found:
        raise UsageError(what="the release code is that of volume 1", why="it was not given", fix="add volume 1")
    if code and not same(code, found):
        raise DigestMismatchError(
            what="the release code is another", why=f"the medium's is {found[:12]}…", fix="compare it with the sheet"
        )
    targets, terms, stale = signed_release(opened[0].read, index, trusted)
    _require_statements(opened[0], targets, trusted)
    total = _require_bytes(opened, index, targets, progress)
    return CheckReport(
        release=terms.release,
        serial=terms.serial,
        sites=terms.sites,
        stale_after=stale.at.isoformat(),
        code=found,
        environment=trusted.environment,
        policy=str(trusted.people.policy),
        root_is_known=ceremony is not None,
        signers=signers,
        files=len(targets),
        bytes=total,
        base=index.base.serials if index.base else (),
        custody={volume.info.number: chain(volume.path, ceremony=trusted) for volume in opened},
        litter=tuple(
            sorted({entry.name for path in volumes for entry in path.iterdir() if entry.name in layout.LITTER})
        ),
        not_given=missing,
    )


def _open(path: Path) -> _OpenVolume:
    release = path / layout.RELEASE
    if not (release / layout.TAG_MANIFEST).is_file():
        raise MissingFileError(what="there is no sealed release here", fix="name the folder where a volume is mounted")
    for entry in path.iterdir():
        if entry.name not in {layout.RELEASE, layout.CUSTODY} | layout.LITTER:
            raise ExtraFileError(what=f"{entry.name!r} lies beside release/", why="only custody/ and litter may")
    found = set(_walk(release))
    tags = parse_manifest((release / layout.TAG_MANIFEST).read_bytes())
    payload = parse_manifest((release / layout.MANIFEST).read_bytes())
    named = set(tags) | set(payload) | {layout.TAG_MANIFEST}
    if missing := sorted(named - found):
        raise MissingFileError(what=f"{missing[0]} is not on the medium", why=f"{len(missing)} listed files miss")
    if extra := sorted(name for name in found - named if layout.signer_of(name) is None):
        raise ExtraFileError(what=f"{extra[0]} is on the medium", why="no list names it")
    require_bagit_txt((release / layout.BAGIT).read_bytes())
    info = parse_bag_info((release / layout.BAG_INFO).read_bytes())
    return _OpenVolume(path=path, info=info, tags=tags, payload=payload)


def _walk(folder: Path, prefix: str = "") -> Iterator[str]:
    with os.scandir(folder) as opened:
        entries = list(opened)
    for entry in entries:
        name = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{name}/")
            continue
        require_regular(entry.stat(follow_symlinks=False), name)
        yield str(layout.safe_path(name))


def _chain(volume: _OpenVolume) -> tuple[bytes, ...]:
    versions = sum(1 for name in volume.tags if name.endswith(".root.json"))
    return tuple(volume.read(layout.root_name(version)) for version in range(1, versions + 1))


def _require_signed(opened: Sequence[_OpenVolume], trusted: Ceremony) -> tuple[str, ...]:
    people = []
    for volume in opened:
        manifest = volume.read(layout.TAG_MANIFEST)
        fingerprints = []
        for path in sorted((volume.path / layout.RELEASE).glob("*.sig")):
            good = verify_detached(path.read_bytes(), manifest, trusted.people.certificates(Role.RELEASE))
            if layout.signer_of(path.name) != good.fingerprint:
                raise BadSignatureError(what=f"{path.name} is by another key than its name says")
            fingerprints.append(good.fingerprint)
        people.append(trusted.people.require_signers(fingerprints, Role.RELEASE, trusted.threshold("release")))
    return tuple(person.name for person in people[0] if all(person in each for each in people))


def _require_one_set(opened: Sequence[_OpenVolume], *, some: bool) -> tuple[VolumeIndex, tuple[int, ...]]:
    indices = {volume.read(layout.VOLUMES) for volume in opened}
    shared = [{name: digest for name, digest in volume.tags.items() if "/" in name} for volume in opened]
    if len(indices) != 1 or any(each != shared[0] for each in shared):
        raise WrongVolumeError(what="the volumes belong to different releases", fix="give the volumes of one release")
    index = VolumeIndex.from_bytes(indices.pop())
    ids = [volume.info.volume_id for volume in opened]
    expected = [volume.id for volume in index.volumes]
    if len(set(ids)) != len(ids) or not set(ids) <= set(expected):
        raise WrongVolumeError(what="a volume is of another release, or given twice")
    missing = tuple(number for number, each in enumerate(expected, start=1) if each not in ids)
    if missing and not some:
        raise MissingVolumeError(
            what=f"volume {missing[0]} is missing",
            why=f"there are {len(expected)}",
            fix="give all of them, or --some to judge only these",
        )
    return index, missing


def _require_tags(opened: Sequence[_OpenVolume]) -> None:
    for volume in opened:
        for name, digest in volume.tags.items():
            if sha256_hex(volume.read(name)) != digest:
                raise DigestMismatchError(
                    what=f"{name} on volume {volume.info.number} is not what was sealed",
                    fix=f"write volume {volume.info.number} again",
                )


def _require_statements(volume: _OpenVolume, targets: Mapping[str, Target], trusted: Ceremony) -> None:
    listed = {path: target.sha256 for path, target in targets.items() if path.startswith(f"{layout.ATTEST}/")}
    if listed != {name: digest for name, digest in volume.tags.items() if name.startswith(f"{layout.ATTEST}/")}:
        raise DigestMismatchError(what="attest/ does not hold what the signed list names")
    for name in listed:
        stem = Path(name).name.removesuffix(layout.ENVELOPE_SUFFIX)
        dsse.verify(volume.read(name), trusted.people, role_of(stem))


def _require_bytes(
    opened: Sequence[_OpenVolume], index: VolumeIndex, targets: Mapping[str, Target], progress: Progress
) -> int:
    by_id = {volume.info.volume_id: volume for volume in opened}
    total = sum(volume.payload_bytes for volume in index.volumes if volume.id in by_id)
    done = 0
    for volume in index.volumes:
        if (on := by_id.get(volume.id)) is None:
            continue
        if on.payload != {part.path: part.sha256 for part in volume.parts}:
            raise DigestMismatchError(what=f"the manifest of volume {volume.number} and the signed index differ")
        for part in volume.parts:

            def advance(count: int, name: str = part.path) -> None:
                nonlocal done
                done += count
                progress(done, total, name)

            found = measure(on.path / layout.RELEASE / part.path, advance=advance)
            if found.sha256 != part.sha256 or found.blocks != targets[part.target].blocks[part.first : part.last + 1]:
                raise DigestMismatchError(
                    what=f"{part.path} on volume {volume.number} is not what was signed",
                    why=f"expected {part.sha256[:12]}, found {found.sha256[:12]}",
                    fix=f"write volume {volume.number} again",
                )
    return done
