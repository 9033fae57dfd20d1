"""What a job that brings engines to what was decided is asked for, and what it leaves loaded: each line for itself.

With one line that is what its last record says. With several, the last record of all may be about any of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.install.jobdesk import ASKED
from appliance.install.jobs import Kind
from appliance.promote.history import Production
from appliance.promote.record import Promotion

WARM: Final = "warm"
_LINE: Final = re.compile(r"(line|but)-([1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What a unit that switches production is to do, by its instance: `follow`, `warm`, `line-N`, `but-N`.

    Attributes:
        is_warm: The version before stays loaded.
        line: The line that comes back from a window, alone asked for.
        rests: The line that a window keeps down meanwhile.
    """

    is_warm: bool = False
    line: int | None = None
    rests: int | None = None

    @classmethod
    def of(cls, untrusted_instance: str) -> Self:
        """Parse the instance; what is not known follows everything, as `follow` does."""
        found = _LINE.fullmatch(untrusted_instance)
        if found is None:
            return cls(is_warm=untrusted_instance == WARM)
        number = int(found[2])
        return cls(line=number) if found[1] == "line" else cls(rests=number)


def is_anothers(config: Config, ledger: Ledger, promotion: Promotion | None) -> bool:
    """Tell whether something was decided by way of another node of the site; never where a single node answers.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    node = config.database.node
    return bool(node) and promotion is not None and not ledger.leaf(promotion.sequence).via.is_of(node)


def serving(current: Mapping[str, Any]) -> frozenset[str]:
    """Return what the lines serve, by what the promoter answers to `current`."""
    lines = current.get("lines") or [current]
    return frozenset(str(one["model_digest"]) for one in lines if one["model_digest"] is not None)


def are_several(current: Mapping[str, Any]) -> bool:
    """Tell whether production has several lines, by what the promoter answers to `current`."""
    return len(current.get("lines", ())) > 1


def switch_for(current: Mapping[str, Any], *, warm: bool) -> tuple[Kind, str]:
    """Return the job that follows what was decided last, and the version that it names.

    Args:
        current: What the promoter answers to `current`.
        warm: Whether the version before stays loaded; not where something was stopped.
    """
    last, digest = current["last"] or {}, current["model_digest"]
    kind = Kind.SWITCH_WARM if warm else Kind.SWITCH
    if are_several(current):
        withdrawn = current["withdrawn"]
        return (Kind.HALT, str(withdrawn[0])) if withdrawn else (kind, str(last["model_digest"]))
    return (Kind.HALT, str(last.get("previous") or "")) if digest is None else (kind, str(digest))


def kept_warm(production: Production, ledger: Ledger) -> tuple[str, ...]:
    """Return the version that a switch leaves loaded where it was asked to: the one before, in the line it is about.

    Where there are several lines, which one that is stands in the job's record: another may have the last word by now.
    """
    last = production.last
    if production.has_further:
        asked = ledger.find(kind=ASKED, field="kind", value=str(Kind.SWITCH_WARM), limit=1)
        line = production.line_of(str(asked[0].body["digest"])) if asked else None
        last = None if line is None else line.last
    return (last.previous,) if last is not None and last.previous else ()
