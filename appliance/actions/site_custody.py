"""What this site knows of media apart from them: hand-overs on paper, volumes sent back, seals seen, heads told.

Paper and rejections are in the ledger, or wait for it; they count for every receive after they were entered.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from appliance.actions.recorded import ledger_may_exist, waiting
from appliance.audit import storage
from appliance.audit.facts import Ledger
from appliance.config import Places
from appliance.errors import LedgerUnavailableError
from appliance.verify.sitecustody import MOST_PAPER, SiteCustody, paper_from
from media import canonical, limits
from media.custody import HEAD_CHARS, PaperEntry
from media.errors import MediaError, UsageError

ENTERED: Final = "custody.entered"
REJECTED: Final = "custody.rejected"
_NUMBER: Final = re.compile(r"[1-9][0-9]?", re.ASCII)
_HEAD: Final = re.compile(rf"[0-9a-f]{{{HEAD_CHARS}}}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAt:
    """What people say at a receive: seals by volume, an empty tuple where there was none, and heads by volume."""

    seals: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    heads: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def parsed(cls, seals: Iterable[str], heads: Iterable[str]) -> "LookedAt":
        """Read `VOLUME=SEAL` and `VOLUME=HEAD` as they are typed.

        Args:
            seals: One for each seal; `1=` says that volume 1 bore none.
            heads: One for each volume.

        Raises:
            UsageError: One is not of that form, or says two things of one volume.
        """
        found: dict[int, tuple[str, ...]] = {}
        for each in seals:
            number, seal = _split(each, "--seal", "1=A-100")
            with_it = (*found.get(number, ()), *([_seal(seal)] if seal else []))
            if (number in found and not seal) or (found.get(number) == () and seal) or len(with_it) > limits.SEALS:
                raise UsageError(what=f"--seal says two things of volume {number}", why="", fix="name each seal once")
            found[number] = with_it
        named: dict[int, str] = {}
        for each in heads:
            number, head = _split(each, "--custody-head", "1=0123456789abcdef")
            head = "".join(head.split()).lower()
            if not _HEAD.fullmatch(head) or named.get(number, head) != head:
                raise UsageError(
                    what=f"the head of volume {number} is none",
                    why=f"a head has {HEAD_CHARS} digits of 0-9 and a-f, and a volume has one",
                    fix="copy it from what the last holder sent apart from the medium",
                )
            named[number] = head
        return cls(seals=found, heads=named)

    def to_json(self) -> dict[str, Any]:
        """Return what a record holds of it."""
        return {
            "seals": {str(number): list(seals) for number, seals in self.seals.items()},
            "heads": {str(number): head for number, head in self.heads.items()},
        }


def known(places: Places, ledger: Ledger, looked_at: LookedAt) -> SiteCustody:
    """Return what this site knows of media now.

    Where the ledger does not run and its file is shut off from this user, as it is from the unit's, paper that was
    entered is not known: more is then odd about the carriers, never less, and a rejection is for people to remember.

    Raises:
        LedgerUnavailableError: The ledger, or the spool, is there and does not answer.
    """
    paper: list[PaperEntry] = []
    for body, sequence in _records(places, ledger, ENTERED):
        with suppress(MediaError):  # entered before times were checked: it still is in the ledger for people
            paper.append(replace(paper_from({**body, "sequence": -1}), sequence=sequence))
    rejected = {str(body.get("volume")) for body, _ in _records(places, ledger, REJECTED)}
    return SiteCustody(
        seals=looked_at.seals,
        heads=looked_at.heads,
        paper=tuple(paper[:MOST_PAPER]),
        rejected=tuple(sorted(each for each in rejected if 0 < len(each) <= HEAD_CHARS))[:MOST_PAPER],
    )


def _records(places: Places, ledger: Ledger, kind: str) -> list[tuple[Mapping[str, Any], int]]:
    found: list[tuple[Mapping[str, Any], int]] = [(body, -1) for body in waiting(places, kind)]
    try:
        found += [(leaf.body, leaf.sequence) for leaf in ledger.find(kind=kind, limit=MOST_PAPER)]
    except LedgerUnavailableError:
        if ledger_may_exist(places) and not _is_shut_off(places):
            raise
    return found


def _is_shut_off(places: Places) -> bool:
    try:
        storage.trace(places).open("rb").close()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _split(text: str, option: str, example: str) -> tuple[int, str]:
    number, sign, rest = text.partition("=")
    if not sign or not _NUMBER.fullmatch(number.strip()):
        raise UsageError(what=f"{option} needs a volume's number", why="", fix=f"write it as {option} {example}")
    return int(number), rest.strip()


def _seal(text: str) -> str:
    try:
        return canonical.text(text, "A seal", most=64)
    except MediaError as error:
        raise UsageError(what="a seal's number cannot be recorded", why=error.why, fix="type what is printed") from None
