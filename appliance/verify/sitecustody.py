"""What people of the site know of the volumes apart from them: seals seen, heads told, paper, rejections.

None of it lies on a volume, so none of it can be forged there. It is compared with what custody/ says; a difference is
a finding that stops until a person accepts it by name (CUST-20 to CUST-24).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from media import canonical, limits
from media.clock import to_text
from media.custody import HEAD_CHARS, CustodyEntry, HandOver, PaperEntry
from media.errors import MalformedError, UsageError

MOST_PAPER: Final = 4096
_WHAT: Final = "What the site knows of custody"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCustody:
    """What people of the site know of the volumes.

    Args:
        seals: By volume number, the seals that somebody saw on it; an empty tuple where there was none.
        heads: By volume number, the head of the chain as its last holder named it.
        paper: Hand-overs that were entered from paper.
        rejected: Ids of volumes that were sent back.
    """

    seals: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    heads: Mapping[int, str] = field(default_factory=dict)
    paper: tuple[PaperEntry, ...] = ()
    rejected: tuple[str, ...] = ()

    def require_volumes(self, count: int) -> None:
        """Refuse seals and heads of volumes that the release has not.

        Raises:
            UsageError: There are such.
        """
        if unknown := sorted(number for number in {*self.seals, *self.heads} if number > count):
            raise UsageError(
                what=f"there is no volume {unknown[0]}",
                why=f"the release lies on {count} volumes",
                fix="correct the number before the = of --seal or --custody-head",
            )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "seals": {str(number): list(seals) for number, seals in self.seals.items()},
            "heads": {str(number): head for number, head in self.heads.items()},
            "paper": [
                {
                    "volume": each.volume,
                    "from": each.from_,
                    "to": each.to,
                    "at": to_text(each.at),
                    "seals": list(each.seals),
                    "entered_by": each.entered_by,
                    "sequence": each.sequence,
                }
                for each in self.paper
            ],
            "rejected": list(self.rejected),
        }

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Read it.

        Raises:
            MalformedError: A field is wrong.
        """
        value = canonical.exact_keys(untrusted, ("seals", "heads", "paper", "rejected"), (), _WHAT)
        return cls(
            seals={_number(name): _seals(seals) for name, seals in canonical.mapping(value["seals"], _WHAT).items()},
            heads={
                _number(name): canonical.text(head, _WHAT, most=HEAD_CHARS)
                for name, head in canonical.mapping(value["heads"], _WHAT).items()
            },
            paper=tuple(paper_from(each) for each in canonical.array(value["paper"], _WHAT, most=MOST_PAPER)),
            rejected=tuple(
                canonical.text(each, _WHAT, most=16)
                for each in canonical.array(value["rejected"], _WHAT, most=MOST_PAPER)
            ),
        )


NOTHING_KNOWN: Final = SiteCustody()


def paper_from(untrusted: Any) -> PaperEntry:
    """Read a hand-over that was entered from paper; fields beside these are not looked at.

    Raises:
        MalformedError: A field is absent or wrong.
    """
    value = canonical.mapping(untrusted, "A hand-over on paper")
    what = "A hand-over on paper"
    return PaperEntry(
        volume=canonical.text(value.get("volume"), what, most=16),
        from_=canonical.text(value.get("from"), what, most=200),
        to=canonical.text(value.get("to"), what, most=200),
        at=canonical.moment(value.get("at"), what),
        seals=_seals(value.get("seals")),
        entered_by=canonical.text(value.get("entered_by"), what, most=200),
        sequence=canonical.integer(value.get("sequence", -1), what, minimum=-1),
    )


def chain_head(entries: Sequence[CustodyEntry], sealed_sha256: str) -> str:
    """Return what the last holder reads out: of the last entry on the medium, or of the sealed one (CUST-22)."""
    return (entries[-1].sha256 if entries else sealed_sha256)[:HEAD_CHARS]


def recorded_seals(
    entries: Sequence[CustodyEntry], sealed: HandOver | None, paper: Sequence[PaperEntry]
) -> tuple[str, ...]:
    """Return the seals that the volume must bear: of the latest hand-over, else those reserved at sealing (CUST-21)."""
    carried: list[HandOver | PaperEntry] = [entry.hand_over for entry in entries]
    last = max([*carried[-1:], *paper], key=lambda each: each.at, default=None)
    if last is not None:
        return last.seals
    return sealed.seals if sealed is not None else ()


def seals_finding(found: tuple[str, ...] | None, recorded: tuple[str, ...]) -> str | None:
    """Return what a person must judge when the seals on a volume are not the recorded ones; None when nobody looked."""
    if found is None or set(found) == set(recorded):
        return None
    said = ", ".join(sorted(recorded)[: limits.SEALS]) or "none"
    return f"the seals found ({', '.join(sorted(found)) or 'none'}) are not those recorded last ({said})"


def head_finding(given: str | None, entries: Sequence[CustodyEntry], sealed_sha256: str) -> str | None:
    """Return what a person must judge when the chain does not end where its last holder said; None when nobody said."""
    if given is None or given == chain_head(entries, sealed_sha256):
        return None
    later = [entry for entry in (sealed_sha256, *(each.sha256 for each in entries)) if entry[:HEAD_CHARS] == given]
    if later:
        return f"the chain goes on after the entry {given} that the last holder named"
    return f"the chain does not hold the entry {given} that the last holder named: its end was cut off or replaced"


def _number(name: str) -> int:
    if not (name.isascii() and name.isdigit() and len(name) <= len(str(limits.VOLUMES)) and int(name) > 0):
        raise MalformedError(what=f"{_WHAT} is malformed", why="a volume's number is none")
    return int(name)


def _seals(untrusted: Any) -> tuple[str, ...]:
    return tuple(canonical.text(each, _WHAT, most=64) for each in canonical.array(untrusted, _WHAT, most=limits.SEALS))
