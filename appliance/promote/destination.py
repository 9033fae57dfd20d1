"""The line of production for which approvals are asked, and whether it is still what it was when they were.

Promises: the line is settled when approval is asked for, by the version's name or by what a person says, and is not
guessed where something is in production. A statement says by itself, and by nothing around it, which line it is for
(PROM-12), so neither a request's file nor a caller's word moves it into another. What happened in other lines voids no
approvals; a stop of all does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import ConflictError
from appliance.promote import linenames, readers
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.promote.linenames import name_of
from appliance.promote.statement import Statement
from media import canonical


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
    def of_message(cls, untrusted: Mapping[str, Any]) -> Self:
        """Parse what a message says: `beside`, true, or `replaces`, a name; nothing where it has neither.

        Raises:
            MalformedError: A field is of another shape.
        """
        name = untrusted.get("replaces")
        return cls(
            beside="beside" in untrusted and canonical.boolean(untrusted["beside"], "beside"),
            replaces="" if name is None else canonical.text(name, "replaces", may_be_empty=True),
        )

    @property
    def fields(self) -> dict[str, Any]:
        """What a message says of it, as `of_message` reads it; nothing where nothing is said."""
        return ({"beside": True} if self.beside else {}) | ({"replaces": self.replaces} if self.replaces else {})

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is asked of the line for which a version is, before approval is.

    Attributes:
        is_asked: It does not follow from the version's name; where it does, nothing is to be said.
        lines: In whose place it may come, line 1 first: its model's name, what it served last, and how it is shown.
        not_beside: Why it may not come beside them; empty where it may.
    """

    is_asked: bool = False
    lines: tuple[tuple[str, str, str], ...] = ()
    not_beside: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        lines = [{"name": name, "newest": newest, "shown": shown} for name, newest, shown in self.lines]
        return {"asked": self.is_asked, "lines": lines, "not_beside": self.not_beside}


def settled(ledger: Ledger, production: Production, model_digest: str, said: Said) -> Line:
    """Return the line into which a version is to come, a new one where it opens one.

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


def _settled(ledger: Ledger, production: Production, model_digest: str, said: Said) -> Line:
    if said.replaces:
        return linenames.line_named(ledger, production, said.replaces)
    if said.beside:
        if production.first.newest is None:
            raise ConflictError(
                what="there is nothing beside which it could come",
                why="no version was in production yet",
                fix=f"run `sealift promote {model_digest[:12]}` without --beside",
            )
        return production.next_line
    found = _by_name(ledger, production, model_digest)
    if found is not None:
        return found
    raise ConflictError(
        what=f"it is not said what becomes of what is in production when {name_of(ledger, model_digest)[:40]} comes",
        why=f"no line has that name; there is {linenames.shown_all(ledger, production)}",
        fix=f"run `sealift promote {model_digest[:12]}` with --beside, or with --replaces NAME; or choose on the"
        " version's page; an automation key's request says `beside` or `replaces`",
    )


def _by_name(ledger: Ledger, production: Production, model_digest: str) -> Line | None:
    """Return the line for which a version is where nothing is said; None where something must be."""
    found = linenames.holder_of(ledger, production, model_digest)
    if found is None and not production.has_further and production.current is None:
        return production.first
    return found


def choice(config: Config, ledger: Ledger, production: Production, model_digest: str) -> Choice:
    """Return what is to be said of the line for which a version is, by the rules of `settled`."""
    if _by_name(ledger, production, model_digest) is not None:
        return Choice()
    not_beside = ""
    try:
        readers.require_readable(config, ledger)
    except ConflictError as error:
        not_beside = error.why
    known = [line for line in production.lines.values() if line.newest is not None]
    return Choice(
        is_asked=True,
        lines=tuple((name_of(ledger, str(one.newest)), str(one.newest), linenames.shown(ledger, one)) for one in known),
        not_beside=not_beside,
    )


def line_of(production: Production, statement: Statement) -> Line:
    """Return the line that a statement is for, a new one where it opens one.

    Raises:
        ConflictError: What it replaces is no longer what any line served last.
    """
    line = production.signed_for(statement)
    if line is None:
        raise ConflictError(
            what="production changed since this promotion was requested",
            why=f"version {str(statement.replaces)[:12]}, whose place it takes, is not in its line any more",
            fix="request it again: `sealift promote DIGEST`",
        )
    return line


def records_of(production: Production, statement: Statement) -> int:
    """Return how many promotions concerned the line that a statement is for: its own, and the stops of all lines.

    A line that is not open yet is concerned by those stops alone.

    Raises:
        ConflictError: As `line_of`.
    """
    number = line_of(production, statement).number
    return sum(one.stops_all or one.line_number == number for one in production.promotions)
