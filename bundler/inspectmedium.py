"""What written volumes say of themselves, for whoever holds one and wonders what it is. Nothing here is verified.

Lists are parsed strictly and shown; no signature, no digest and no custody is judged. `check` does that, and the site.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.contents import Contents
from media import layout
from media.bagit import parse_bag_info
from media.errors import MissingFileError
from media.volume import VolumeIndex

_WARNING = "NOT VERIFIED: this is what the medium says of itself; run: sealift-bundler check"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenVolume:
    """One volume that is here."""

    number: int
    id: str
    files: int
    bytes: int
    signatures: int
    hand_overs: int
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumFacts:
    """What volumes of one release say."""

    facts: Mapping[str, Any]
    count: int
    volumes: tuple[SeenVolume, ...]
    files: Mapping[str, int]
    sizes: Mapping[str, int]
    licenses: Mapping[str, int]

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers of the volumes that are not here."""
        here = {volume.number for volume in self.volumes}
        return tuple(number for number in range(1, self.count + 1) if number not in here)

    def to_json(self) -> dict[str, Any]:
        """Return the fields a program reads."""
        names = ("number", "id", "files", "bytes", "signatures", "hand_overs")
        return {
            "verified": False,
            **self.facts,
            "volume_count": self.count,
            "volumes": [
                {**{name: getattr(each, name) for name in names}, "not_ours": list(each.others)}
                for each in self.volumes
            ],
            "missing_volumes": list(self.missing),
            "files": dict(self.files),
            "bytes": dict(self.sizes),
            "licenses": dict(self.licenses),
        }

    def to_text(self) -> str:
        """Return what a person reads."""
        facts = self.facts
        lines = [
            _WARNING,
            f"{facts['release']}, serial {facts['serial']}, for {', '.join(facts['sites'])}",
            f"  created {facts['created']}, stale after {facts['stale_after']}",
        ]
        for each in self.volumes:
            lines.append(
                f"  volume {each.number} of {self.count}, id {each.id}: {each.files} files, {each.bytes:,} bytes,"
                f" {each.signatures} signatures, {each.hand_overs} hand-overs"
            )
            lines += [f"    also there: {name}" for name in each.others]
        if self.missing:
            lines.append(f"  not here: volume {', '.join(map(str, self.missing))}")
        lines += [
            f"  {kind:<8} {self.files[kind]:>5} files {self.sizes[kind] / 2**20:>10.1f} MiB" for kind in self.files
        ]
        lines += [f"  licence {name}: {count} files" for name, count in self.licenses.items()]
        return "\n".join(_printable(line) for line in lines)


def volume_folders(folder: Path) -> tuple[Path, ...]:
    """Return the volumes that a folder is or holds; none when it holds none."""
    places = (folder, *sorted(each for each in folder.iterdir() if each.is_dir()))
    return tuple(place for place in places if (place / layout.RELEASE / layout.BAG_INFO).is_file())


def inspect_medium(folder: Path) -> MediumFacts:
    """Read what a volume, or the volumes in a folder, say of themselves.

    Raises:
        MissingFileError: There is no volume.
        WrongVolumeError: The volumes belong to different releases.
        MediaError: Their lists cannot be read.
    """
    places = volume_folders(folder)
    if not places:
        raise MissingFileError(what="there is no volume here", fix="name the folder where the medium is mounted")
    contents = Contents.open(folder)
    index = VolumeIndex.from_bytes((places[0] / layout.RELEASE / layout.VOLUMES).read_bytes())
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for entry in contents.files.values():
        files[entry.kind] += 1
        sizes[entry.kind] += entry.length
    return MediumFacts(
        facts=contents.facts,
        count=len(index.volumes),
        volumes=tuple(_seen(place) for place in places),
        files=dict(sorted(files.items())),
        sizes=sizes,
        licenses=dict(sorted(Counter(each.license or "none given" for each in contents.stated().values()).items())),
    )


def _printable(untrusted: str) -> str:
    """Return a line without what a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in untrusted)


def _seen(place: Path) -> SeenVolume:
    release = place / layout.RELEASE
    info = parse_bag_info((release / layout.BAG_INFO).read_bytes())
    files = [path for path in release.rglob("*") if path.is_file() and not path.is_symlink()]
    known = {layout.RELEASE, layout.CUSTODY, *layout.LITTER}
    return SeenVolume(
        number=info.number,
        id=info.volume_id,
        files=len(files),
        bytes=sum(path.stat().st_size for path in files),
        signatures=sum(1 for path in release.glob("*.sig")),
        hand_overs=sum(1 for path in (place / layout.CUSTODY).glob(f"*{layout.ENVELOPE_SUFFIX}")),
        others=tuple(sorted(path.name for path in place.iterdir() if path.name not in known)),
    )
