"""The line of production for which approvals are asked, and whether it is still what it was when they were.

Promises: the line is settled when approval is asked for, by the version's name or by what a person says, and is not
guessed where something is in production; nothing opens a line where another box or node might not read it. A statement
says by itself, and by nothing around it, which line it is for (PROM-12), so neither a request's
file nor a caller's word moves it into another. What happened in other lines voids no approvals; a stop of all does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import ConflictError
from appliance.promote import linenames
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.promote.naming import name_of
from appliance.promote.record import FIRST_LINE
from appliance.promote.statement import Statement
from appliance.standby.pairing import Relation, paired


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said of the line that a version is for; nothing where its name says it.

    Attributes:
        beside: It opens a line beside all others.
        replaces: It takes the place of this: the name of a model in production, or the digest that people signed.
    """

    beside: bool = False
    replaces: str = ""

    @classmethod
    def of(cls, statement: Statement | None) -> Self:
        """Return what people are asked to sign, or have signed."""
        if statement is None or not statement.is_of_a_further_line:
            return cls()
        return cls(beside=statement.replaces is None, replaces=statement.replaces or "")

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return what the fields of a statement say, as a page shows them."""
        return cls(beside=fields.get("replaces", "") is None, replaces=str(fields.get("replaces") or ""))


def settled(ledger: Ledger, production: Production, model_digest: str, said: Said) -> Line | None:
    """Return the line into which a version is to come; None where it opens one.

    Raises:
        ConflictError: It was not said what becomes of what is in production, or another line has its name.
        NotPromotedError: No line serves what it is to replace.
    """
    if said.beside and said.replaces:
        raise ConflictError(
            what="a version comes beside all others or in the place of one", why="both were said", fix="say one of them"
        )
    line = _settled(ledger, production, model_digest, said)
    linenames.require_own_name(ledger, production, model_digest, line)
    return line


def _settled(ledger: Ledger, production: Production, model_digest: str, said: Said) -> Line | None:
    if said.replaces:
        return linenames.line_named(ledger, production, said.replaces)
    if said.beside:
        if production.first.newest is None:
            raise ConflictError(
                what="there is nothing beside which it could come",
                why="no version was in production yet",
                fix=f"run `sealift promote {model_digest[:12]}` without --beside",
            )
        return None
    name = name_of(ledger, model_digest)
    found = linenames.holder_of(ledger, production, model_digest, name)
    if found is not None:
        return found
    if len(production.lines) == 1 and production.current is None:
        return production.first
    raise ConflictError(
        what=f"it is not said what becomes of what is in production when {name[:40]} comes",
        why=f"no line has that name; there is {linenames.shown_all(ledger, production)}",
        fix=f"run `sealift promote {model_digest[:12]}` with --beside, or with --replaces NAME",
    )


def require_readable(config: Config) -> None:
    """Return when every box that takes part reads what a further line writes, as far as this one can know.

    Raises:
        ConflictError: Another box takes over what is decided here, or decides too, and its release is not known.
    """
    standbys = [one.peer.name for one in paired(config.at) if one.relation is Relation.STANDBY]
    if standbys or config.database.node:
        who = f"{', '.join(standbys)} is paired as a standby" if standbys else "several nodes answer for this site"
        raise ConflictError(
            what="no further line of production is opened here",
            why=f"{who}, and no card says whether it reads format 3; an older release would load nothing afterwards",
            fix="serve one model in production here, or end the pairing or the further node first",
        )


def line_of(production: Production, statement: Statement) -> Line | None:
    """Return the line that a statement is for; None for one that opens a line.

    Raises:
        ConflictError: What it replaces is no longer what any line served last.
    """
    if not statement.is_of_a_further_line:
        return production.first
    if statement.replaces is None:
        return None
    for line in production.lines.values():
        if line.newest == statement.replaces and line.number != FIRST_LINE:
            return line
    raise ConflictError(
        what="production changed since this promotion was requested",
        why=f"version {statement.replaces[:12]}, whose place it takes, is not in its line any more",
        fix="request it again: `sealift promote DIGEST`",
    )


def records_of(production: Production, line: Line | None) -> int:
    """Return how many promotions concerned a line: its own, and the stops of all lines.

    A line that is not open yet is concerned by those stops alone.
    """
    number = 0 if line is None else line.number
    return sum(one.stops_all or (one.line or FIRST_LINE) == number for one in production.promotions)
