"""What a release changes against the one before it, for the person who is about to sign."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.prepare import Prepared
from bundler.signatory import signed_part
from media import layout
from media.errors import MissingFileError
from media.release import Target, targets_from

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Payload files by what happened to them."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    same: int
    new_bytes: int

    def to_text(self) -> str:
        """Return the lines a person reads, at most twenty of each kind."""
        lines = [f"  {self.same} files as before, {self.new_bytes:,} bytes are new"]
        for sign, paths in (("+", self.added), ("-", self.removed), ("~", self.changed)):
            lines += [f"  {sign} {path}" for path in paths[:_SHOWN]]
            if len(paths) > _SHOWN:
                lines.append(f"  {sign} and {len(paths) - _SHOWN} more")
        return "\n".join(lines)


def previous_targets(folder: Path) -> dict[str, Target]:
    """Return the targets of an earlier release, from its medium, its work folder or its metadata folder.

    Raises:
        MissingFileError: There is no targets metadata.
        MediaError: It cannot be read.
    """
    for place in (folder / layout.RELEASE / layout.METADATA, folder / layout.METADATA, folder):
        found = sorted(place.glob("*.targets.json"), key=lambda path: int(path.name.split(".")[0]))
        if found:
            return targets_from(signed_part(found[-1].read_bytes()))
    raise MissingFileError(
        what="there is no earlier release there",
        why="no N.targets.json was found",
        fix="name its medium, its work folder or its metadata folder",
    )


def difference(previous: Mapping[str, Target], prepared: Prepared) -> Difference:
    """Compare the payload of an earlier release with a prepared one."""
    before = {path: target.sha256 for path, target in previous.items() if path.startswith(f"{layout.DATA}/")}
    after = {path: found.sha256 for path, found in prepared.payload.items()}
    known = set(before.values())
    return Difference(
        added=tuple(sorted(set(after) - set(before))),
        removed=tuple(sorted(set(before) - set(after))),
        changed=tuple(sorted(path for path in set(before) & set(after) if before[path] != after[path])),
        same=sum(1 for path in set(before) & set(after) if before[path] == after[path]),
        new_bytes=sum(found.length for path, found in prepared.payload.items() if after[path] not in known),
    )
