"""What one release holds, as far as it can be seen from a medium, a work folder or its metadata alone.

For comparing, not for trusting: lists and statements are parsed strictly and no signature is verified here; a
component of the bill of materials counts only for the file whose digest it names. The bytes of a file are looked up
when somebody asks for them, and may be on another volume.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from bundler.measure import Measured, Progress, measure_tree, no_progress
from bundler.plan import ReleasePlan
from bundler.sbom import PATH_PROPERTY
from bundler.signatory import signed_part
from bundler.workfolder import WorkFolder
from media import layout
from media.canonical import loads, mapping
from media.dsse import Envelope
from media.errors import MalformedError, MissingFileError, WrongVolumeError
from media.limits import PAYLOAD_BYTES
from media.release import ReleaseTerms, targets_from
from media.volume import VolumeIndex

_PART = re.compile(r"\.([0-9]{6})-[0-9]{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One payload file."""

    length: int
    sha256: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the bill of materials says of one file."""

    name: str
    version: str
    license: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """One release.

    Args:
        facts: Name, serial, sites and the like, for people.
        files: Payload files by path below `data/`.
        folders: Where `data/...` is looked up, one for each volume; none when only lists are at hand.
        attest: Where statements are looked up; None likewise.
        partial: Files of which a delta set carries some blocks; its work folder has holes where the others belong.
    """

    facts: Mapping[str, Any]
    files: Mapping[str, Entry]
    folders: tuple[Path, ...] = ()
    attest: Path | None = None
    partial: frozenset[str] = frozenset()

    @classmethod
    def open(cls, folder: Path, *, progress: Progress = no_progress) -> Self:
        """Return the release of a volume, a folder of volumes, a work folder, or a folder of metadata.

        A work folder that is not frozen is measured, since nothing vouches for it yet.

        Raises:
            MissingFileError: There is none.
            WrongVolumeError: The volumes belong to different releases.
            MediaError: Its lists cannot be read.
        """
        work = WorkFolder(root=folder)
        if work.plan.is_file() and not work.is_frozen:
            return cls.of_work(work, measure_tree(work.data, prefix=layout.DATA, progress=progress))
        volumes = sorted(folder.glob(f"*/{layout.RELEASE}/{layout.METADATA}"))
        places = (
            (folder / layout.RELEASE / layout.METADATA, folder / layout.RELEASE, folder / layout.RELEASE),
            (folder / layout.METADATA, work.candidate if work.plan.is_file() else folder, folder),
            (folder, folder.parent, folder.parent),
        )
        for metadata, payload, above in places:
            found = sorted(metadata.glob("*.targets.json"), key=lambda path: path.name.partition(".")[0].zfill(16))
            if found:
                has_payload, has_statements = (payload / layout.DATA).is_dir(), (above / layout.ATTEST).is_dir()
                return cls._of_targets(
                    found[-1],
                    folders=(payload,) if has_payload else (),
                    attest=above / layout.ATTEST if has_statements else None,
                )
        if volumes:
            sides = [cls.open(metadata.parent.parent) for metadata in volumes]
            if any((each.facts, each.files) != (sides[0].facts, sides[0].files) for each in sides):
                raise WrongVolumeError(
                    what=f"the volumes in {folder.name} belong to different releases",
                    fix="name a folder that holds the volumes of one",
                )
            return replace(sides[0], folders=tuple(place for each in sides for place in each.folders))
        raise MissingFileError(
            what=f"there is no release in {folder.name or 'this folder'}",
            why="neither N.targets.json nor candidate/plan.json was found",
            fix="name a medium, a work folder or a metadata folder",
        )

    @classmethod
    def of_work(cls, work: WorkFolder, payload: Mapping[str, Measured]) -> Self:
        """Return the release of a work folder whose payload was measured.

        Raises:
            MalformedError: The plan cannot be read.
        """
        plan = ReleasePlan.load(work.plan)
        return cls(
            facts={
                "release": plan.release,
                "serial": plan.serial,
                "created": plan.created,
                "stale_after": plan.stale_after,
                "sites": list(plan.sites),
            },
            files={
                path: Entry(length=found.length, sha256=found.sha256, kind=plan.kinds.get(path, ""))
                for path, found in payload.items()
            },
            folders=(work.candidate,),
            attest=work.attest,
        )

    @classmethod
    def _of_targets(cls, targets: Path, *, folders: tuple[Path, ...], attest: Path | None) -> Self:
        signed = signed_part(targets.read_bytes())
        terms = ReleaseTerms.from_targets(signed)
        timestamp = targets.with_name(Path(layout.TIMESTAMP).name)
        dates = signed_part(timestamp.read_bytes()) if timestamp.is_file() else {}
        return cls(
            facts={
                "release": terms.release,
                "serial": terms.serial,
                "created": signed["x-sealift"]["created"],
                "stale_after": str(dates.get("x-sealift-stale-after", "")),
                "sites": list(terms.sites),
            },
            files={
                path: Entry(length=target.length, sha256=target.sha256, kind=target.kind)
                for path, target in targets_from(signed).items()
                if path.startswith(f"{layout.DATA}/")
            },
            folders=folders,
            attest=attest,
            partial=_partial(targets.with_name(Path(layout.VOLUMES).name)),
        )

    def head(self, path: str, limit: int) -> bytes | None:
        """Return at most `limit` bytes from the start of a file; None when it does not lie here.

        A file that was cut is read from its first part, which is as much as a header needs.
        """
        place = self.whole(path)
        if place is None and path in self.files:
            name = Path(path).name
            parts = [each for folder in self.folders for each in (folder / path).parent.glob(f"{name}.000000-*")]
            place = next((each for each in parts if _PART.fullmatch(each.name[len(name) :])), None)
        if place is None:
            return None
        with place.open("rb") as source:
            return source.read(limit)

    def whole(self, path: str) -> Path | None:
        """Return where a whole file lies; None when it does not lie here in one piece."""
        is_here = path in self.files and path not in self.partial
        places = [folder / path for folder in self.folders] if is_here else []
        return next((place for place in places if place.is_file() and not place.is_symlink()), None)

    def stated(self) -> Mapping[str, Stated]:
        """What the bill of materials says, by path; empty where there is none."""
        found: dict[str, Stated] = {}
        for untrusted in self.predicate("sbom").get("components", ()):
            component = mapping(untrusted, "A component")
            path = next(
                (
                    str(each.get("value"))
                    for each in component.get("properties", ())
                    if isinstance(each, dict) and each.get("name") == PATH_PROPERTY
                ),
                "",
            )
            entry = self.files.get(path)
            digests = [each.get("content") for each in component.get("hashes", ()) if isinstance(each, dict)]
            if entry is not None and entry.sha256 in digests:
                found[path] = Stated(
                    name=str(component.get("name", "")),
                    version=str(component.get("version", "")),
                    license=", ".join(sorted(_license(each) for each in component.get("licenses", ()))),
                )
        return found

    def predicate(self, name: str) -> Mapping[str, Any]:
        """Return what a statement says, signed or not yet; empty where there is none.

        Raises:
            MalformedError: It cannot be read.
        """
        if self.attest is None:
            return {}
        signed, unsigned = self.attest / f"{name}{layout.ENVELOPE_SUFFIX}", self.attest / f"{name}.json"
        if signed.is_file():
            content = Envelope.from_bytes(signed.read_bytes()).payload
        elif unsigned.is_file():
            content = unsigned.read_bytes()
        else:
            return {}
        whole = mapping(loads(content, max_bytes=PAYLOAD_BYTES, allow_floats=True), f"The {name} statement")
        return mapping(whole.get("predicate", {}), f"The {name} statement")

    def document(self, path: str) -> Mapping[str, Any] | None:
        """Return a small JSON file of the payload; None when it does not lie here or is none."""
        content = self.text(path)
        if content is None:
            return None
        try:
            return mapping(loads(content.encode()), path)
        except MalformedError:
            return None

    def text(self, path: str) -> str | None:
        """Return a small text file of the payload; None when it does not lie here."""
        place = self.whole(path)
        if place is None or self.files[path].length > PAYLOAD_BYTES:
            return None
        return place.read_text("utf-8", errors="replace")


def _partial(index: Path) -> frozenset[str]:
    base = VolumeIndex.from_bytes(index.read_bytes()).base if index.is_file() else None
    return frozenset(run.target for run in base.runs) if base else frozenset()


def _license(untrusted: Any) -> str:
    value = mapping(untrusted, "A licence")
    if "expression" in value:
        return str(value["expression"])
    named = mapping(value.get("license", {}), "A licence")
    return str(named.get("id") or named.get("name") or "")
