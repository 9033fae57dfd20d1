"""Further lines of a site, decided by Ana and Ben with real signatures, past the promoter and what it refuses."""

from dataclasses import replace
from datetime import timedelta
from secrets import token_hex
from typing import Any

from appliance.promote.books import Books
from appliance.promote.promoter import Request
from appliance.promote.record import Kind, Promotion
from appliance.promote.statement import LINE_FORMAT, Statement
from appliance.promote.terms import Terms
from tests.support.promotion import Site
from tests.support.signatories import signatories


def statement_of(site: Site, version: str | Request | Statement, **changes: Any) -> Statement:
    """Return what is to be signed to bring a version into a further line; `replaces` says which.

    Args:
        site: Where it is signed.
        version: Its digest, or a request for it that was made already.
        changes: Of the statement.
    """
    fields: dict[str, Any] = {"format": LINE_FORMAT, **changes}
    if isinstance(version, str):
        version = asked(site, version)
    return replace(version if isinstance(version, Statement) else version.statement, **fields)


def asked(site: Site, version: str, *, name: str = "tiny") -> Statement:
    """Validate a version, and return a statement for line 1 that the promoter never saw and might have refused."""
    validated = site.validate(version, name=name)
    assert validated is not None
    now = site.clock.now()
    return Statement(
        site=site.config.site,
        model_digest=version,
        weights_digest=validated.weights_digest,
        evidence_digest=validated.evidence_digest,
        policy_digest=validated.policy_digest,
        meaning="serve it",
        nonce=token_hex(16),
        requested_by=signatories()[0].id,
        requested_at=now,
        expires=now + timedelta(hours=72),
    )


def signed(site: Site, statement: Statement) -> dict[str, Any]:
    """Return the record's fields of a statement that Ana and Ben signed."""
    made = site.folder.production().promotions[0]
    raw = statement.to_bytes()
    approvals = [
        replace(one, signature=person.sign(raw)) for one, person in zip(made.approvals, signatories(), strict=False)
    ]
    return {
        "model_digest": statement.model_digest,
        "statement": raw.decode(),
        "statement_sha256": statement.sha256,
        "approvals": [one.to_json() for one in approvals],
        "requested_by": statement.requested_by,
    }


def alone(reason: str = "to be sure") -> dict[str, Any]:
    """Return the record's fields of what one person decides."""
    return {"person": signatories()[1].id, "class": "operator", "reason": reason}


def record(site: Site, kind: Kind, body: dict[str, Any]) -> Promotion:
    """Record a step as the promoter will."""
    books = Books(site.folder, site.ledger)
    _, production = books.catch_up()
    return books.record_promotion(production, kind, body)


def open_line(site: Site, version: str | Request | Statement) -> int:
    """Bring a version beside all others; return the number of its line."""
    number = site.folder.production().number + 1
    body = signed(site, statement_of(site, version)) | {"line": number, "previous": None}
    return record(site, Kind.MADE, body).number


def bring(site: Site, version: str | Request | Statement, number: int) -> Promotion:
    """Bring a version into a further line in the place of what it serves, or served last."""
    line = site.folder.production().lines[number]
    body = signed(site, statement_of(site, version, replaces=line.newest))
    return record(site, Kind.MADE, body | {"line": number, "previous": line.current})


def stop_line(site: Site, number: int) -> Promotion:
    """Withdraw one line."""
    current = site.folder.production().lines[number].current
    return record(site, Kind.STOPPED, {"line": number, "previous": current, **alone()})


def go_back(site: Site, model_digest: str, number: int) -> Promotion:
    """Go back in a further line."""
    current = site.folder.production().lines[number].current
    body = {"line": number, "previous": current, "model_digest": model_digest, **alone()}
    return record(site, Kind.ROLLED_BACK, body)


def start_canary(site: Site, version: str | Request, number: int) -> Promotion:
    """Let a version answer for a share of a further line's callers."""
    line = site.folder.production().lines[number]
    statement = statement_of(site, version, replaces=line.newest)
    body = signed(site, statement)
    terms = Terms(version=statement.model_digest, percent=20, hours=48, watch_hours=48)
    body |= {"line": number, "previous": line.current, "model_digest": line.current, "terms": terms.to_json()}
    return record(site, Kind.CANARY_STARTED, body)


def cut_over(site: Site, number: int) -> Promotion:
    """Let the canary of a further line take its place, and keep the version before for the watch."""
    line = site.folder.production().lines[number]
    assert line.canary is not None
    terms = Terms(version=line.canary.version, watch_hours=48).to_json()
    body = {"line": number, "previous": line.current, "model_digest": line.canary.version, "terms": terms, **alone()}
    return record(site, Kind.CUT_OVER, body)
