"""What a receiver is taken to hold, by digest: from its own inventory, or from what the register says was sent."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from bundler.dispatch import MediumState, media_of
from bundler.register import Entry
from bundler.signatory import signed_part
from bundler.workfolder import WorkFolder
from media import layout
from media.bagit import parse_bag_info
from media.deltabase import Knowledge
from media.digest import release_code
from media.errors import MissingFileError, UsageError
from media.inventory import HeldFile, Inventory
from media.release import ReleaseTerms, Target, targets_from
from media.volume import VolumeIndex

_NOT_TAKEN: Final = frozenset({"refused", "rejected"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Files that a receiver has.

    Args:
        site: The receiver.
        source: Whose word it is.
        at: When that was.
        serials: The releases they come from, rising.
        files: By digest.
        assumed: What is taken for granted without anybody's proof, in sentences for people.
    """

    site: str
    source: Knowledge
    at: datetime
    serials: tuple[int, ...]
    files: Mapping[str, HeldFile] = field(hash=False)
    assumed: tuple[str, ...] = ()

    @classmethod
    def of_inventory(cls, inventory: Inventory) -> Self:
        """Return what a site said that it holds.

        Raises:
            UsageError: It holds no release.
        """
        if not inventory.releases:
            raise UsageError(
                what=f"{inventory.site} holds no release yet",
                why="its inventory is empty",
                fix="write the full set: sealift-bundler write WORK FOLDER...",
            )
        told = () if inventory.hashed else ("the site listed its files without hashing them again",)
        return cls(
            site=inventory.site,
            source=Knowledge.INVENTORY,
            at=inventory.at,
            serials=tuple(each.serial for each in inventory.releases),
            files={each.sha256: each for each in inventory.files},
            assumed=told,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRelease:
    """A release that was made before, from its work folder or its media.

    Args:
        code: Its release code.
        terms: What people signed about it.
        targets: Its files.
        index: Its volumes.
        folders: Where `data/...` of it is looked up.
    """

    code: str
    terms: ReleaseTerms
    targets: Mapping[str, Target] = field(hash=False)
    index: VolumeIndex
    folders: tuple[Path, ...]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a work folder, a volume, or a folder of volumes.

        Its lists are parsed strictly and not verified: whatever is read from it is compared with digests.

        Raises:
            MissingFileError: There is no sealed release.
            MediaError: Its lists cannot be read.
        """
        work = WorkFolder(root=folder)
        if work.plan.is_file() and work.is_frozen:
            return cls._read(work.metadata, work.seal_of(1) / layout.TAG_MANIFEST, (work.candidate,))
        places = (folder / layout.RELEASE, *sorted(folder.glob(f"*/{layout.RELEASE}")))
        releases = [each for each in places if (each / layout.TAG_MANIFEST).is_file()]
        first = next((each for each in releases if _is_first(each)), None)
        if first is None:
            raise MissingFileError(
                what=f"there is no earlier release in {folder.name or 'this folder'}",
                why="neither a sealed work folder nor volume 1 of a set was found",
                fix="name the work folder it was written from, or the folder of its volumes",
            )
        return cls._read(first / layout.METADATA, first / layout.TAG_MANIFEST, tuple(releases))

    @classmethod
    def _read(cls, metadata: Path, manifest: Path, folders: tuple[Path, ...]) -> Self:
        listed = sorted(metadata.glob("*.targets.json"), key=lambda path: path.name.partition(".")[0].zfill(16))
        if not listed:
            raise MissingFileError(
                what="the earlier release has no list of its files",
                why="its metadata is not complete",
                fix="name the work folder it was written from, or another copy of its first volume",
            )
        signed = signed_part(listed[-1].read_bytes())
        return cls(
            code=release_code(manifest.read_bytes()),
            terms=ReleaseTerms.from_targets(signed),
            targets=targets_from(signed),
            index=VolumeIndex.from_bytes((metadata / Path(layout.VOLUMES).name).read_bytes()),
            folders=folders,
        )

    def held(self) -> Iterable[HeldFile]:
        """Yield its payload as files of a store."""
        for path, target in self.targets.items():
            if path.startswith(f"{layout.DATA}/"):
                yield HeldFile(sha256=target.sha256, length=target.length, blocks=target.blocks)

    def whole_files(self) -> dict[str, Path]:
        """Return where whole payload files lie here, by digest; one that is cut over volumes is left out.

        So is one of which a delta set carried only a part: its work folder has holes where the base's blocks belong.
        """
        found = {}
        held = {target.path for target in self.index.held_whole(self.targets)}
        held |= {run.target for run in (self.index.base.runs if self.index.base else ())}
        for path, target in self.targets.items():
            if path.startswith(f"{layout.DATA}/") and path not in held:
                for place in (folder / path for folder in self.folders):
                    if place.is_file() and not place.is_symlink() and place.stat().st_size == target.length:
                        found[target.sha256] = place
        return found


def _is_first(release: Path) -> bool:
    try:
        return parse_bag_info((release / layout.BAG_INFO).read_bytes()).number == 1
    except OSError:
        return False


def holdings_of_register(
    entries: Sequence[Entry], site: str, earlier: Sequence[EarlierRelease], *, at: datetime
) -> Holdings:
    """Return what a site must hold if it took in what was sent to it and lost nothing (profile one-way).

    Args:
        entries: Of the register.
        site: For which site.
        earlier: The releases to build on.
        at: Now.

    Raises:
        UsageError: A release was not sent to this site, or nothing was named.
    """
    if not earlier:
        raise UsageError(
            what="no earlier release was named",
            why="the register says what was sent, the release itself says what was in it",
            fix="add --base FOLDER: the work folder or the volumes of the release that the site has",
        )
    media, sent_to = media_of(entries), dict[str, set[str]]()
    for entry in entries:
        if entry.kind == "sent":
            sent_to.setdefault(entry.facts["medium"], set()).add(entry.facts["to"])
    ordered = sorted(earlier, key=lambda each: each.terms.serial)
    for each in ordered:
        _require_not_refused(entries, media, site, each)
    return Holdings(
        site=site,
        source=Knowledge.REGISTER,
        at=at,
        serials=tuple(sorted({each.terms.serial for each in ordered})),
        files={file.sha256: file for each in ordered for file in each.held()},
        assumed=tuple(_evidence(media, sent_to, site, each) for each in ordered),
    )


def _require_not_refused(
    entries: Sequence[Entry], media: Sequence[MediumState], site: str, release: EarlierRelease
) -> None:
    """Pass only when a site's last word on each volume of a release is not that it did not take it.

    What was sent again after that, or taken after all, counts.

    Raises:
        UsageError: It is.
    """
    volumes = {each.id: each.volume for each in media if each.code == release.code}
    ids = {each.medium: each.id for each in media if each.code == release.code}
    refused: dict[str, Entry] = {}
    for entry in entries:
        facts = entry.facts
        if entry.kind == "sent":
            refused.pop(ids.get(facts["medium"], ""), None)
        elif entry.kind == "receipt" and facts["site"] == site and facts["code"] == release.code:
            refused = {each: word for each, word in refused.items() if volumes[each] not in facts["volumes"]}
        elif entry.kind == "evidence" and facts["site"] == site:
            for each in volumes.keys() & set(facts["ids"]):
                refused.pop(each, None)
                if facts["outcome"] in _NOT_TAKEN:
                    refused[each] = entry
    if refused:
        first = min(refused, key=lambda each: volumes[each])
        said = refused[first].facts
        raise UsageError(
            what=f"{site} did not take {release.terms.release} (serial {release.terms.serial})",
            why=f"volume {volumes[first]} was {said['outcome']} at {said['received_at']}",
            fix="enter that it was sent again, or that it was taken after all; or write the full set",
        )


def _evidence(
    media: Sequence[MediumState], sent_to: Mapping[str, Collection[str]], site: str, release: EarlierRelease
) -> str:
    """Return in a sentence how it is known that a site has a release; what went to its other sites alone says nothing.

    A site's receipt is for volumes, whichever copy it held: it counts wherever that one was sent.
    """
    own = [each for each in media if each.code == release.code and site in each.sites]
    gone = [
        each
        for each in own
        if set(sent_to.get(each.medium, ())) - {other for other in each.sites if other != site}
        or any(text.startswith(f"{site} at ") for text in each.received)
    ]
    wanted = set(range(1, own[0].count + 1)) if own else {0}
    name = f"{release.terms.release} (serial {release.terms.serial})"
    if {each.volume for each in gone} != wanted:
        missing = sorted(wanted - {each.volume for each in gone})
        raise UsageError(
            what=f"the register does not say that all of {name} was sent to {site}",
            why=f"volume {missing[0]} is not entered as sent" if own else "it was never written for this site",
            fix="enter it with `sealift-bundler register sent`, or write the full set",
        )
    taken = {each.volume for each in gone if any(text.startswith(f"{site} at ") for text in each.received)}
    if taken == wanted:
        return f"{name}: {site} sent a receipt for it; that nothing was lost since is assumed"
    since = max(each.since for each in gone)
    return f"{name}: was sent, last entered {since}; that {site} took it in is assumed, no receipt came back"
