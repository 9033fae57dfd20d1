"""What a scrub found: objects and releases at rest that are not what was received, named so that a person can act."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

MOST: Final = 64
"""So many findings are listed; the rest is counted."""
_SHOWN: Final = 3
_MOST_USES: Final = 16
_MOST_RANGES: Final = 64
_MOST_TENSORS: Final = 16


class Problem(StrEnum):
    """What is wrong with a thing at rest."""

    CHANGED = "changed"  # other bytes than were received
    LENGTH = "length"  # another length
    UNREADABLE = "unreadable"  # the disk does not give it back
    MISSING = "missing"  # a release names it and it is not there
    UNSTEADY = "unsteady"  # read twice, and not the same
    CONTRADICTION = "contradiction"  # every block holds, the whole does not: signed metadata do not agree
    RECORD = "record"  # the release's own files: record, metadata, attestations, custody


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A file of a stored release."""

    serial: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Bytes that are bad; a block, or what of the file is no block's."""

    first: int
    last: int
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoilt:
    """One finding.

    Args:
        sha256: Name of the object; empty where a release's own file is meant.
        problem: What is wrong.
        uses: The files that it is; none where no stored release names it.
        ranges: The bad bytes, where they could be told.
    """

    sha256: str
    problem: Problem
    uses: tuple[Use, ...]
    ranges: tuple[Range, ...] = ()

    @property
    def text(self) -> str:
        """One line for a person."""
        name = f"object {self.sha256[:12]}" if self.sha256 else "its own file"
        files = ", ".join(f"{use.path} of serial {use.serial}" for use in self.uses[:_SHOWN]) or "no stored release"
        more = f" and {len(self.uses) - _SHOWN} more" if len(self.uses) > _SHOWN else ""
        where = "; ".join(_range_text(each) for each in self.ranges[:_SHOWN])
        also = f"; {len(self.ranges)} bad ranges in all" if len(self.ranges) > _SHOWN else ""
        return f"{files}{more} ({name}): {_SAID[self.problem]}{f': {where}{also}' if where else ''}"

    def to_json(self) -> dict[str, Any]:
        """Return the finding, bounded, as the ledger records it."""
        return {
            "object": self.sha256,
            "problem": str(self.problem),
            "files": [{"serial": use.serial, "path": use.path} for use in self.uses[:_MOST_USES]],
            "ranges": [
                {"first_byte": each.first, "last_byte": each.last, "tensors": list(each.tensors[:_MOST_TENSORS])}
                for each in self.ranges[:_MOST_RANGES]
            ],
        }


_SAID: Final = {
    Problem.CHANGED: "other bytes than were received",
    Problem.LENGTH: "not as long as it was received",
    Problem.UNREADABLE: "the disk does not give it back",
    Problem.MISSING: "it is not there",
    Problem.UNSTEADY: "read twice, it was not the same: suspect memory or the disk",
    Problem.CONTRADICTION: "every signed block holds and the signed whole does not: call the sender's release people",
    Problem.RECORD: "not what was received",
}


@dataclass(slots=True, kw_only=True)
class Findings:
    """All findings of one scrub; beyond `MOST` they are counted only."""

    count: int = 0
    listed: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def add(self, spoilt: Spoilt) -> None:
        """Keep one."""
        self.count += 1
        if len(self.listed) < MOST:
            self.listed.append(spoilt.to_json())
            self.texts.append(spoilt.text)


def _range_text(found: Range) -> str:
    shown = ", ".join(found.tensors[:_SHOWN])
    more = f" and {len(found.tensors) - _SHOWN} more" if len(found.tensors) > _SHOWN else ""
    return f"bytes {found.first} to {found.last}" + (f" (tensor {shown}{more})" if shown else "")
