"""What the status says of production: what serves, who approved it, what is tried beside it, what does not run.

An operator may not read the promoter's folder, and is told what the ledger records: nobody has to be root to see at
night which version answers.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, create_engine, select
from sqlalchemy.pool import StaticPool

from appliance.actions.statusledger import StatusLedger
from appliance.actions.statuspart import Part
from appliance.config import Config
from appliance.install.supervisor import UnitFacts, engine_unit
from appliance.promote.doubted import in_doubt
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.promote.linenames import name_of
from appliance.promote.standing import require_promoted
from appliance.registry import windows
from appliance.stages import FIRST_LINE
from appliance.state import lines, projection
from appliance.state.rollouts import CANARY
from appliance.state.tables import Base, Rollout
from media.clock import to_text
from media.errors import SealiftError


def production(config: Config, asked: StatusLedger) -> Part:
    """Return what is in production, who approved it where this user may see that, and what of it is in doubt."""
    part = _production(config, asked)
    serving = [part.fields.get("model_digest"), *(line["model_digest"] for line in part.fields.get("lines", ()))]
    try:
        doubted = sorted(in_doubt(asked.ask()) & set(serving))
    except SealiftError:  # the ledger's own part says that it does not answer
        return part
    if not doubted:
        return part
    named = ", ".join(digest[:12] for digest in doubted)
    text = f"{part.text}; came with a release in doubt: {named} (`sealift trust affected`)"
    return replace(part, is_good=False, text=text, fields={**part.fields, "in_doubt": doubted})


def _production(config: Config, asked: StatusLedger) -> Part:
    try:
        production = PromoterFolder(config.at.promoter).production()
    except PermissionError:
        return _serving_as_recorded(asked)
    if production.has_further:
        return _lines(config, production, asked)
    digest = production.current
    if digest is None:
        return Part(name="production", is_good=None, text="nothing is promoted", fields={"model_digest": None})
    promoted = require_promoted(config.at, digest, approvals=config.policy.approvals, counting=config.policy.classes)
    return Part(
        name="production",
        is_good=True,
        text=f"{digest[:12]}, approved by {' and '.join(promoted.people)}",
        fields=promoted.to_json(),
    )


def _lines(config: Config, production: Production, asked: StatusLedger) -> Part:
    """Return what each of several lines serves; the fields of line 1 stand where they stand for a site with one."""
    names = _names(production, asked)
    fields: dict[str, Any] = {"model_digest": None}
    words, shown = [], []
    for line in production.lines.values():
        name, digest = names.get(line.number) or f"line {line.number}", line.current
        if digest is None:
            words.append(f"{name} is stopped")
            shown.append({"line": line.number, "name": name, "model_digest": None})
            continue
        found = require_promoted(config.at, digest, approvals=config.policy.approvals, counting=config.policy.classes)
        words.append(f"{name} {digest[:12]}, approved by {' and '.join(found.people)}")
        shown.append({"line": line.number, "name": name, **found.to_json()})
        fields = found.to_json() if line is production.first else fields
    text = "; ".join(words)
    is_good = True if production.serving else None
    return Part(name="production", is_good=is_good, text=text, fields=fields | {"lines": shown})


def _names(production: Production, asked: StatusLedger) -> dict[int, str]:
    """Return the name of each line's model; nothing where the ledger does not answer, which is told elsewhere."""
    try:
        return {line.number: name_of(asked.ask(), line.newest or "") for line in production.lines.values()}
    except SealiftError:
        return {}


def rollout(config: Config, asked: StatusLedger) -> Part:
    """Return whether a canary runs, or a version stays loaded beside production."""
    try:
        production = PromoterFolder(config.at.promoter).production()
    except PermissionError:
        return _canary_as_recorded(asked)
    canary, beside = production.canary, production.first.beside
    if canary is not None:
        held = ", on hold" if canary.is_held else ""
        text = f"canary {canary.version[:12]} for {canary.terms.percent} % of the callers{held}"
    elif beside is not None:
        text = f"{beside.version[:12]} stays loaded until {to_text(beside.until)}"
    else:
        text = "no canary runs"
    fields = {"canary": canary and canary.version, "beside": beside and beside.version}
    return Part(name="rollout", is_good=None, text=text, fields=fields)


def silent(config: Config, units: Iterable[UnitFacts], asked: StatusLedger) -> tuple[str, ...]:
    """Return the versions in production whose engine does not run, although nobody made it rest.

    A restore, or an install on a machine where what was in production was not received again, leaves it so. A box of a
    pair and a node of several may rightly wait; `sealift doctor` looks at those.
    """
    if config.standby.listen or config.database.kind != "sqlite":
        return ()
    try:
        serving = PromoterFolder(config.at.promoter).production().serving
        if not serving or windows.opened(asked.ask()) is not None:
            return ()
    except (SealiftError, OSError):  # other parts say so
        return ()
    known = {one.name: one.state for one in units}
    digests = [line.current for line in serving if line.current is not None]
    # One that is known and down is told by its name.
    return tuple(one for one in digests if known.get(engine_unit("production", one)) is None)


def _serving_as_recorded(asked: StatusLedger) -> Part:
    with _recorded(asked) as session:
        standing = lines.standing(session)
    ledger = asked.ask()
    told = [
        f"{one.last[:12]}, {name_of(ledger, one.last)}{', stopped' if one.is_stopped else ''}"
        for one in standing.values()
    ]
    text = f"{'; '.join(told)}, as recorded" if told else "nothing is promoted"
    first = standing.get(FIRST_LINE)
    digest = None if first is None or first.is_stopped else first.last
    fields: dict[str, Any] = {"model_digest": digest}
    if len(standing) > 1:
        fields["lines"] = [
            {"line": number, "model_digest": None if one.is_stopped else one.last} for number, one in standing.items()
        ]
    return Part(name="production", is_good=None, text=text, fields=fields)


def _canary_as_recorded(asked: StatusLedger) -> Part:
    with _recorded(asked) as session:
        tried = session.execute(select(Rollout.model_digest).where(Rollout.state.in_(CANARY))).scalars().all()
    text = ", ".join(f"canary {digest[:12]}" for digest in tried)
    fields = {"canary": tried[0] if tried else None}
    return Part(name="rollout", is_good=None, text=text or "no canary runs", fields=fields)


@contextmanager
def _recorded(asked: StatusLedger) -> Iterator[Connection]:
    """Yield a state made from the ledger, for who may not read the box's own."""
    state = create_engine("sqlite+pysqlite://", poolclass=StaticPool)
    try:
        Base.metadata.create_all(state)
        projection.rebuild(state, asked.ask())
        with state.connect() as session:
            yield session
    finally:
        state.dispose()
