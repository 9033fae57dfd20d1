"""The page of the gates' policy: what holds, what the site changed, and what waits for people to sign.

Files are brought in at the machine (`sealift policy import`); here people read them whole and hand in what they made.
The page relays: the promoter judges every approval and says what holds.
"""

from flask import Blueprint, Response, abort, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.actions import policy as action
from appliance.admin import approval, collaborators
from appliance.promote.policychange import PolicyRequest
from appliance.promote.strictness import spoken


def make_blueprint() -> Blueprint:
    """Return the routes of the policy."""
    blueprint = Blueprint("policy", __name__)
    blueprint.add_url_rule("/policy", "standing", _standing)
    blueprint.add_url_rule("/policy/<digest>/statement", "statement", _statement)
    blueprint.add_url_rule("/policy/<digest>/approve", "approve", _approve, methods=["POST"])
    return blueprint


def _standing() -> str:
    here = collaborators.page()
    now = action.standing(here.ledger)
    return render_template(
        "policy.html",
        now=now,
        holds=now.compared,
        thresholds=[(key, spoken(value)) for key, value in action.thresholds(now.compared).items()],
        requests=[(one, action.difference(now.compared, action.laid(one.statement.policy))) for one in _waiting()],
        needed=here.config.policy.approvals,
        ways_for=approval.ways,
    )


def _statement(digest: str) -> Response:
    found = [one for one in _waiting() if one.statement.sha256 == digest]
    if not found:
        abort(404)
    return approval.statement_file(found[0].statement.to_bytes(), digest, about="policy")


def _approve(digest: str) -> AnyResponse:
    """Relay what a person made; whose it is, the promoter finds out."""
    approval.relay("policy-approve", digest)
    return redirect(url_for("policy.standing"))


def _waiting() -> list[PolicyRequest]:
    return [PolicyRequest.from_json(one) for one in collaborators.page().promoter.call("policy-pending")["requests"]]
