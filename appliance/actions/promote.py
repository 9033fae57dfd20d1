"""Bring a version into production: ask for approvals, wait for them, promote, serve.

One command, repeated, does all steps: it requests where nothing waits, says who is missing while approvals are,
promotes when they suffice, and brings the engine up where that was cut off. Only the promoter decides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from appliance.actions.displaced import sentence
from appliance.actions.fit import FitFacts, fit
from appliance.actions.following import serving
from appliance.actions.production import Served, Surroundings, settle
from appliance.errors import ApprovalRefusedError, ConflictError
from appliance.promote.approvals import LEAST_PEOPLE
from appliance.promote.destination import Said
from appliance.promote.policybook import in_force
from appliance.promote.promoter import Request, most_approved
from appliance.promote.record import Promotion
from appliance.promote.validated import require_validated
from appliance.registry import catalog
from appliance.registry.catalog import Version
from appliance.stages import FIRST_LINE, line_of
from media.errors import UsageError


class Step(StrEnum):
    """How far a call of `promote` came."""

    REQUESTED = "requested"
    WAITING = "waiting"
    SERVING = "serving"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteFacts:
    """What was done, and what is missing; `goes` says what goes away and what stays by the request that waits."""

    step: Step
    version: Version
    needed: int
    request: Request | None = None
    promotion: Promotion | None = None
    served: Served | None = None
    fit: FitFacts | None = None
    goes: str = ""

    @property
    def approved_by(self) -> tuple[str, ...]:
        """Those who approved so far, as approvals show them."""
        return () if self.request is None else tuple(one.shown for one in self.request.approvals)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "step": str(self.step),
            "model_digest": self.version.model_digest,
            "name": self.version.name,
            "version": self.version.version,
            "needed": self.needed,
            "approved_by": list(self.approved_by),
            "statement_sha256": None if self.request is None else self.request.statement.sha256,
            "promotion": None if self.promotion is None else self.promotion.number,
            "sequence": None if self.promotion is None else self.promotion.sequence,
            "seconds": None if self.served is None else round(self.served.seconds, 3),
            "stopped": [] if self.served is None else list(self.served.stopped),
            "fit": None if self.fit is None else self.fit.to_json(),
        }


def promote(
    here: Surroundings,
    which: str,
    *,
    person: str,
    meaning: str = "",
    keep_warm: bool = False,
    said: Said | None = None,
    password: Callable[[], str | None] = lambda: None,
) -> PromoteFacts:
    """Take a version as far towards production as its approvals allow.

    Args:
        here: What the action works with.
        which: A digest, the beginning of one, a name, or NAME:VERSION.
        person: Who asks, by id; needed only where nothing waits yet.
        meaning: Why, in words that people sign; a plain sentence is made when empty.
        keep_warm: Leave the engine of the version before running, for going back in seconds.
        said: Which line it is for; that of its name where nothing is said.
        password: Returns that of who asks, where the promoter wants it; called only where nothing waits yet.

    Raises:
        UnknownVersionError: No such version is registered.
        ConflictError: Requests for several lines wait, and it is not said which is meant.
        UsageError: It has to be requested, and nobody is named.
        GateFailedError: It did not pass the gates of the current policy.
        EngineLoadError: It is known not to fit this machine's memory, so nobody is asked.
        RemoteError: The promoter refused.
        UnitError: It was promoted, and its engine did not start; run the command again or go back.
    """
    with here.state.connect() as session:
        version = catalog.version(session, which)
    needed = max(here.config.policy.approvals, LEAST_PEOPLE)
    standing = here.promoter.current()
    if version.model_digest in serving(standing):
        return PromoteFacts(step=Step.SERVING, version=version, needed=needed, served=settle(here))
    found = [one for one in _asked(here, version.model_digest) if _is_as_said(one, said, standing["lines"])]
    _require_one_line(found, version, standing["lines"], needed=needed)
    request = most_approved(found)
    if request is None:
        if not person:
            raise UsageError(what="nobody requests it", why="a statement names who did", fix="give --as PERSON")
        validated = require_validated(here.ledger, version.model_digest, in_force(here.ledger))
        planned = fit(here.config, here.ledger, here.state, version.model_digest, said=said)
        planned.require_loadable()
        text = meaning or f"Serve {version.name} {version.version} in production at {here.config.site}"
        asked = said or Said()
        request = here.promoter.request(
            validated,
            meaning=text,
            requested_by=person,
            password=password(),
            beside=asked.beside,
            replaces=asked.replaces,
        )
        return PromoteFacts(step=Step.REQUESTED, version=version, needed=needed, request=request, fit=planned)
    if len(request.approvals) < needed:
        with here.state.connect() as session:
            goes = sentence(session, Said.of(request.statement), version)
        return PromoteFacts(step=Step.WAITING, version=version, needed=needed, request=request, goes=goes)
    promotion = here.promoter.promote(request.statement.sha256)
    here.tell(f"promotion {promotion.number} is recorded at sequence {promotion.sequence}")
    keep = (promotion.previous,) if keep_warm and promotion.previous else ()
    served = settle(here, keep=keep)
    return PromoteFacts(
        step=Step.SERVING, version=version, needed=needed, request=request, promotion=promotion, served=served
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawnFacts:
    """The requests that were withdrawn, or would be."""

    version: Version
    requests: tuple[Request, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        names = [one.statement.sha256 for one in self.requests]
        return {"model_digest": self.version.model_digest, "withdrawn": names}


def withdraw(
    here: Surroundings,
    which: str,
    *,
    person: str,
    reason: str,
    said: Said | None = None,
    password: str | None = None,
    dry_run: bool = False,
) -> WithdrawnFacts:
    """Withdraw what waits for approval of a version; of several lines that for the one that is said.

    Raises:
        UnknownVersionError: No such version is registered.
        ApprovalRefusedError: Nothing waits.
        ConflictError: Requests for several lines wait, and it is not said which is meant.
        RemoteError: The promoter refused: nobody of that id, or no reason.
    """
    with here.state.connect() as session:
        version = catalog.version(session, which)
    lines, needed = here.promoter.current()["lines"], max(here.config.policy.approvals, LEAST_PEOPLE)
    found = [one for one in _asked(here, version.model_digest) if _is_as_said(one, said, lines)]
    if not found:
        raise ApprovalRefusedError(
            what=f"no request for {version.name} {version.version} waits",
            why="it was promoted or withdrawn, it has expired, or production, gates or policy changed since",
            fix="see `sealift history`",
        )
    _require_one_line(found, version, lines, needed=needed)
    for one in () if dry_run else found:
        here.promoter.withdraw(one.statement.sha256, person=person, reason=reason, password=password)
    return WithdrawnFacts(version=version, requests=tuple(found))


def _is_as_said(request: Request, said: Said | None, lines: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether what waits is for the line that was said; so it is where nothing was."""
    if said is None or said == Said():
        return True
    waits = Said.of(request.statement)
    if said.beside:
        return waits.beside
    line = next((one for one in lines if one["name"] == said.replaces), {})
    return waits == Said(replaces=line["newest"] if line_of(line) != FIRST_LINE else "")


def said_of(here: Surroundings, model_digest: str) -> Said:
    """Return for which line a version waits, as its request says; nothing where none waits."""
    request = waiting(here, model_digest)
    return Said.of(None if request is None else request.statement)


def waiting(here: Surroundings, model_digest: str) -> Request | None:
    """Return the request for a version that waits for approvals; of several see `most_approved`."""
    return most_approved(_asked(here, model_digest))


def _asked(here: Surroundings, model_digest: str) -> list[Request]:
    return [one for one in here.promoter.pending() if one.statement.model_digest == model_digest]


def _require_one_line(
    requests: Sequence[Request], version: Version, lines: Sequence[Mapping[str, Any]], *, needed: int
) -> None:
    """Return when what waits brings the version into one line: another would make another model go away.

    Raises:
        ConflictError: It does not.
    """
    by_line: dict[Said, list[Request]] = {}
    for one in requests:
        by_line.setdefault(Said.of(one.statement), []).append(one)
    if len(by_line) > 1:
        told = (
            f"{_place(said, lines)} ({max(len(one.approvals) for one in found)} of {needed} have approved)"
            for said, found in by_line.items()
        )
        raise ConflictError(
            what=f"several requests for {version.name} {version.version} wait, and each brings it elsewhere",
            why="; ".join(sorted(told)),
            fix="say which is meant: --beside, or --replaces NAME",
        )


def _place(said: Said, lines: Sequence[Mapping[str, Any]]) -> str:
    if said.beside:
        return "beside what is in production"
    found = (
        one for one in lines if one["newest"] == said.replaces or (not said.replaces and line_of(one) == FIRST_LINE)
    )
    return f"in the place of {next((one['name'] for one in found), 'what was there')}"
