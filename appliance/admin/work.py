"""What the page lets people do: validate, request or withdraw that, promote, go back, stop, plan and install.

The page itself starts nothing. Decisions are the promoter's (going back and stopping take the person's password there),
root steps are typed jobs, and each job has a page that shows its progress until it has ended.
"""

from hashlib import sha256
from typing import Any, Final

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.actions import canary as canary_action
from appliance.actions import rollback
from appliance.actions.following import switch_for
from appliance.admin import approval, collaborators, lines
from appliance.errors import ConflictError
from appliance.install.jobs import Kind
from appliance.install.plans import Plan
from appliance.promote.hostchange import HostRequest
from appliance.promote.policybook import in_force
from appliance.promote.validated import require_validated
from appliance.wire import RemoteError
from media import canonical
from media.errors import SealiftError

_MAX_FIELD = 500
AGAIN: Final = "again"
"""In the address by which the page of a job that runs shows itself again, and nobody steps."""
_STEPS: Final = ("hold", "resume", "abort")


def make_blueprint() -> Blueprint:
    """Return the routes of work."""
    blueprint = Blueprint("work", __name__)
    blueprint.add_url_rule("/versions/<digest>/validate", "validate", _validate, methods=["POST"])
    blueprint.add_url_rule("/versions/<digest>/request", "request", _request, methods=["POST"])
    blueprint.add_url_rule("/promotion/<digest>/promote", "promote", _promote, methods=["POST"])
    blueprint.add_url_rule("/promotion/<digest>/withdraw", "withdraw", _withdraw, methods=["POST"])
    blueprint.add_url_rule("/promotion/rollback", "rollback", _rollback, methods=["POST"])
    for step in _STEPS:
        rule = f"/rollout/{step}"
        blueprint.add_url_rule(rule, f"canary_{step}", _canary, methods=["POST"], defaults={"step": step})
    blueprint.add_url_rule("/rollout/cutover", "canary_cutover", _cut_over, methods=["POST"])
    blueprint.add_url_rule("/rollout/keep", "watch_keep", _keep, methods=["POST"])
    blueprint.add_url_rule("/promotion/stop", "stop", _stop, methods=["POST"])
    blueprint.add_url_rule("/releases/<int:serial>/plan", "plan", _plan, methods=["POST"])
    blueprint.add_url_rule("/releases/<int:serial>/install", "install", _install, methods=["POST"])
    blueprint.add_url_rule("/jobs", "jobs", _jobs)
    blueprint.add_url_rule("/jobs/<int:number>", "job", _job)
    blueprint.add_url_rule("/host", "host", _host)
    blueprint.add_url_rule("/host/<digest>", "host_plan", _host_plan)
    blueprint.add_url_rule("/host/<digest>/request", "host_request", _host_request, methods=["POST"])
    blueprint.add_url_rule("/host/<digest>/statement", "host_statement", _host_statement)
    blueprint.add_url_rule("/host/<digest>/approve", "host_approve", _host_approve, methods=["POST"])
    return blueprint


def _validate(digest: str) -> AnyResponse:
    return _ask(Kind.VALIDATE, digest=digest)


def _request(digest: str) -> AnyResponse:
    """Ask for approvals of a version whose gates passed; the statement is then signed elsewhere."""
    here = collaborators.page()
    validated = require_validated(here.ledger, canonical.sha256_hex(digest, "digest"), in_force(here.ledger))
    said = lines.said()
    lines.require_loadable(validated.model_digest, said)
    here.promoter.call(
        "request",
        model_digest=validated.model_digest,
        evidence_digest=validated.evidence_digest,
        policy_digest=validated.policy_digest,
        meaning=_field("meaning"),
        **_asker(),
        **said.fields,
    )
    return redirect(url_for("pages.promotion"))


def _asker() -> dict[str, str]:
    """Return who asks, with the password where who requests does not approve: this process proves nobody."""
    here, person = collaborators.page(), collaborators.session().person
    if here.config.release_is_request:
        return {"requested_by": person}
    return {"requested_by": person, "password": _password(person)}


def _password(person: str) -> str:
    """Return the password that a form holds, unless too many were sent in a short time."""
    if not collaborators.page().attempts.allow(f"person {person}"):
        abort(429)
    return request.form.get("password", "")[:_MAX_FIELD]


def _promote(digest: str) -> AnyResponse:
    """Finish what enough people signed: the promoter counts them again, then a job switches production."""
    answer = collaborators.page().promoter.call("promote", statement_sha256=digest)
    kind = Kind.SWITCH_WARM if request.form.get("warm") == "yes" else Kind.SWITCH
    return _follow(kind, str(answer["promotion"]["model_digest"]))


def _withdraw(digest: str) -> AnyResponse:
    """Take back what nobody is to approve any more."""
    _alone("withdraw", statement_sha256=digest)
    return redirect(url_for("pages.promotion"))


def _rollback() -> AnyResponse:
    promoter, digest = collaborators.page().promoter, request.form.get("digest") or None
    several = lines.several()
    name = "" if digest else lines.chosen(several)
    # While a canary runs in that line, going back means ending it, as `sealift rollback` does.
    has_canary = digest is None and promoter.call("canary-standing")["canary"] is not None
    if has_canary and rollback.ends_canary({"lines": several}, name):
        answer = _alone("canary-abort", **lines.seen())
    else:
        answer = _alone("rollback", model_digest=digest, line=name or None, **lines.seen())
    return _follow(Kind.SWITCH, str(answer["promotion"]["model_digest"]))


def _canary(step: str) -> AnyResponse:
    # What takes callers away from a canary may be of any; what adds some is of the one that was shown.
    answer = _alone(f"canary-{step}", **(lines.seen() if step == "resume" else {}))
    return _follow(Kind.SWITCH, str(answer["promotion"]["model_digest"]))


def _cut_over() -> AnyResponse:
    """Make the canary's version the one in production; the promoter says what is missing, if anything is."""
    here = collaborators.page()
    canary = here.promoter.call("canary-standing")["canary"] or {}
    if not canary or request.form.get("version") != canary["version"]:
        abort(409, "Another canary runs now, or none. Read the page again.")
    canary_action.require_notice(canary, here.facts.pinned_to(str(canary["production"])))
    answer = _alone("canary-cutover", keeps_before=True)
    return _follow(Kind.SWITCH, str(answer["promotion"]["model_digest"]))


def _keep() -> AnyResponse:
    """Keep the version in production in spite of what the watch found; nothing is switched."""
    _alone("watch-keep", line=lines.chosen(lines.several()) or None, **lines.seen())
    return redirect(url_for("rollout.standing"))


def _stop() -> AnyResponse:
    """Take production out of service; of several lines the one that is chosen, or every one."""
    name = lines.chosen(lines.several(), every=True)
    promoter = collaborators.page().promoter
    try:
        _alone("stop", line=name or None)
    except RemoteError as error:
        # Stopped already, and perhaps without what follows from it: that is asked for once more.
        if error.remote_code != ConflictError.code or not promoter.call("current")["withdrawn"]:
            raise
    return _follow(*switch_for(promoter.call("current"), warm=False))


def _follow(kind: Kind, digest: str) -> AnyResponse:
    """Ask for the job that carries out what the promoter has recorded just now.

    Raises:
        RemoteError: It is refused, and what was decided stands; the fix says how it is carried out all the same.
    """
    try:
        return _ask(kind, digest=digest)
    except SealiftError as error:
        again = "the same as `sealift stop`" if kind is Kind.HALT else f"`sealift promote {digest[:12]}`"
        raise RemoteError(
            what="it is decided and recorded, and not carried out yet",
            why=f"{error.what}: {error.why}",
            fix=f"when that is mended, {again} at the machine: it decides nothing anew",
            code=str(error.to_json()["code"]),
            exit_code=error.exit_code,
        ) from error


def _alone(do: str, **fields: Any) -> dict[str, Any]:
    """Let the promoter record what one person decides, by that person's password."""
    here, person = collaborators.page(), collaborators.session().person
    return here.promoter.call(do, person=person, password=_password(person), reason=_field("reason"), **fields)


def _plan(serial: int) -> AnyResponse:
    return _ask(Kind.PLAN, serial=serial)


def _install(serial: int) -> AnyResponse:
    return _ask(Kind.INSTALL, serial=serial)


def _ask(kind: Kind, **named: str | int) -> AnyResponse:
    here = collaborators.page()
    answer = here.jobs.call("ask", kind=str(kind), person=collaborators.session().person, **named)
    return redirect(url_for("work.job", number=int(answer["job"])))


def _jobs() -> str:
    return render_template("jobs.html", jobs=collaborators.page().jobs.call("jobs")["jobs"])


def _job(number: int) -> str:
    again = f"{url_for('work.job', number=number)}?{AGAIN}=1"
    return render_template("job.html", job=collaborators.page().jobs.call("show", job=number), again=again)


def _host() -> str:
    here = collaborators.page()
    return render_template(
        "host.html", requests=_waiting(), needed=here.config.policy.approvals, ways_for=approval.ways
    )


def _host_plan(digest: str) -> str:
    """Show a plan whole, hashed again: what people approve is what they read."""
    plan = _read_plan(digest)
    return render_template("plan.html", plan=plan, text=plan.to_text())


def _host_request(digest: str) -> AnyResponse:
    plan = _read_plan(digest)
    collaborators.page().promoter.call(
        "host-request",
        plan_digest=plan.digest,
        serial=plan.serial,
        meaning=_field("meaning"),
        requested_by=collaborators.session().person,
    )
    return redirect(url_for("work.host"))


def _host_statement(digest: str) -> Response:
    found = [one for one in _waiting() if one.statement.sha256 == digest]
    if not found:
        abort(404)
    return approval.statement_file(found[0].statement.to_bytes(), digest, about="host-change")


def _host_approve(digest: str) -> AnyResponse:
    """Relay what a person made; whose it is, the promoter finds out."""
    approval.relay("host-approve", digest)
    return redirect(url_for("work.host"))


def _waiting() -> list[HostRequest]:
    return [HostRequest.from_json(one) for one in collaborators.page().promoter.call("host-pending")["requests"]]


def _read_plan(digest: str) -> Plan:
    raw = str(collaborators.page().jobs.call("plan", digest=digest)["text"]).encode()
    if sha256(raw).hexdigest() != digest:
        abort(502, "The plan is not what its digest says.")
    return Plan.from_bytes(raw)


def _field(name: str) -> str:
    value = request.form.get(name, "").strip()
    if not value or len(value) > _MAX_FIELD:
        abort(400, f"Fill in: {name}.")
    return value
