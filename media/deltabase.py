"""What a delta set of volumes takes for granted: the base, signed inside `metadata/volumes.json` (FMT-80 to FMT-86).

A delta set carries only blocks that the receiver has not. The base says for which site and from what knowledge it was
planned, and where in the receiver's own store the blocks lie that changed files share with older ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from media import canonical, clock, digest, layout, limits
from media.errors import MalformedError
from media.release import require_site_name

_FIELDS = ("at", "runs", "serials", "set", "site", "source")
_RUN_FIELDS = ("block", "first", "last", "object", "target")


class Knowledge(StrEnum):
    """Whose word says what the receiver holds."""

    INVENTORY = "inventory"
    """The site's own, signed by its ledger's key."""
    REGISTER = "register"
    """The sender's, of what was sent: nothing ever comes back from the site (profile one-way)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive blocks of a target that lie, in this order, in one object of the receiver's store.

    Args:
        target: Path of the whole file.
        first: Number of the first block.
        last: Number of the last block.
        object: SHA-256 of the stored file that holds them.
        block: Number of the block there that is `first` here.
    """

    target: str
    first: int
    last: int
    object: str
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What the receiver must hold already.

    Targets that have neither part nor run are held whole, under their own digest.

    Args:
        site: For which site the set was planned; names it to people, proves nothing.
        source: From what knowledge.
        at: When the site, or the register, said so.
        serials: The releases that the base consists of, rising.
        runs: Sorted by target and first block.
    """

    site: str
    source: Knowledge
    at: datetime
    serials: tuple[int, ...]
    runs: tuple[Run, ...]

    @classmethod
    def from_json(cls, untrusted: Any) -> tuple[Self, str]:
        """Return the base and the digest of the set that it names.

        Raises:
            MalformedError: A field is wrong.
            UnsafePathError: A target is not one that a medium may hold.
        """
        what = "The base of the volume index"
        value = canonical.exact_keys(untrusted, _FIELDS, (), what)
        serials = tuple(
            canonical.integer(each, what, minimum=1, maximum=limits.SERIAL_MAX)
            for each in canonical.array(value["serials"], what, most=limits.BASE_SERIALS)
        )
        runs = tuple(_run(each) for each in canonical.array(value["runs"], what, most=limits.FILES))
        keys = [(run.target, run.first) for run in runs]
        if not serials or list(serials) != sorted(set(serials)) or keys != sorted(keys):
            raise _malformed(what, "its serials or runs are not in order, or it names no release")
        base = cls(
            site=require_site_name(canonical.text(value["site"], what)),
            source=Knowledge(canonical.one_of(value["source"], Knowledge, what)),
            at=canonical.moment(value["at"], what),
            serials=serials,
            runs=runs,
        )
        return base, canonical.sha256_hex(value["set"], what)

    def to_json(self) -> dict[str, Any]:
        """Return the fields but `set`, which follows from them and the parts."""
        return {
            "site": self.site,
            "source": str(self.source),
            "at": clock.to_text(self.at),
            "serials": list(self.serials),
            "runs": [{name: getattr(run, name) for name in _RUN_FIELDS} for run in self.runs],
        }

    def set_digest(self, parts: Sequence[Sequence[str]]) -> str:
        """Return what tells this set from every other of the release (FMT-81): base, and paths by volume."""
        return digest.sha256_hex(canonical.dumps({"base": self.to_json(), "parts": [list(each) for each in parts]}))


def _run(untrusted: Any) -> Run:
    what = "A run of the base"
    value = canonical.exact_keys(untrusted, _RUN_FIELDS, (), what)
    last = limits.BLOCKS_PER_FILE - 1
    run = Run(
        target=str(layout.safe_path(canonical.text(value["target"], what))),
        first=canonical.integer(value["first"], what, maximum=last),
        last=canonical.integer(value["last"], what, maximum=last),
        object=canonical.sha256_hex(value["object"], what),
        block=canonical.integer(value["block"], what, maximum=last),
    )
    if run.last < run.first:
        raise _malformed(what, "it ends before it begins")
    return run


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(
        what=f"{what} is malformed", why=why, fix="Do not use this medium; ask the sender for a new one."
    )
