"""Approving on the page: one page that says what would change, and the forms that hand in what a person made of it.

The page relays: the promoter judges every approval, and the launcher again. A security key signs the statement's digest
in the browser, so this process never sees what could sign another; with password and one-time code it does see both,
which is why that way is of a lower class.
"""

from typing import Any, Final

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.actions.approve import ran_on, site_thresholds
from appliance.actions.summary import summarise
from appliance.admin import collaborators
from appliance.admin.facts import PendingRequest, VersionRow, pending_requests
from appliance.errors import ProofError
from appliance.promote import base64text
from appliance.promote.classes import OPENPGP, PASSWORD_TOTP, PKCS11, WEBAUTHN
from appliance.promote.destination import Said
from appliance.promote.presented import Presented
from appliance.registry import evidence

_MAX_SIGNATURE: Final = 16 * 1024
_MAX_FIELD: Final = 500
_MAX_ANSWER: Final = 8 * 1024
_GONE: Final = (
    "This request does not wait any more: it was promoted, it has expired, or production, the gates' results or their "
    "policy changed since. Ask again on the version's page."
)
_ANSWER: Final = ("credential_id", "authenticator_data", "client_data", "signature")


def make_blueprint() -> Blueprint:
    """Return the routes of approvals."""
    blueprint = Blueprint("approval", __name__)
    blueprint.add_url_rule("/promotion/<digest>/approval", "wizard", _wizard)
    blueprint.add_url_rule("/promotion/<digest>/approve", "approve", _approve, methods=["POST"])
    return blueprint


def relay(do: str, digest: str) -> None:
    """Hand in what the form of this request brings as an approval of a statement, and record that it was relayed.

    Raises:
        RemoteError: The promoter refused it.
    """
    here, person = collaborators.page(), collaborators.session().person
    presented = _presented(person)
    if presented.approves_by == PASSWORD_TOTP and not here.attempts.allow(f"person {person}"):
        abort(429)
    here.promoter.call(do, statement_sha256=digest, **presented.to_message())
    body = {"person": person, "statement_sha256": digest}
    here.ledger.append("admin.relayed-approval", {**body, "class": presented.approves_by})


def statement_file(statement: bytes, digest: str, *, about: str) -> Response:
    """Return a statement's own bytes as a file to save and sign.

    Args:
        statement: The bytes that are signed.
        digest: Its digest.
        about: What the file's name begins with.
    """
    return Response(
        statement,
        mimetype="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{about}-{digest[:12]}.json"'},
    )


def ways(digest: str) -> dict[str, Any]:
    """Return what the forms for one statement need: which classes count here, and the person's own security keys."""
    here, person = collaborators.page(), collaborators.session().person
    keys: list[str] = []
    rp_id = ""
    for one in here.promoter.call("people").get("people", []):
        if one.get("person") == person:
            found = [key for key in one.get("credentials", []) if key.get("class") == WEBAUTHN]
            keys, rp_id = [str(key["id"]) for key in found], str(found[0]["rp_id"]) if found else ""
    return {
        "digest": digest,
        "classes": tuple(here.config.policy.classes),
        "challenge": base64text.encode_url(bytes.fromhex(digest)),
        "key_ids": keys,
        "rp_id": rp_id,
    }


def _wizard(digest: str) -> str:
    here = collaborators.page()
    asked = _waiting(digest)
    after = here.facts.version(str(asked.fields["model_digest"]))
    if after is None:
        abort(404)
    said = Said.of_fields(asked.fields)
    before, goes = here.facts.displaced(said), here.facts.goes(said, after.digest)
    return render_template(
        "approval.html",
        one=asked,
        ran_on=ran_on(here.ledger, after.digest, str(asked.fields["evidence_digest"])),
        thresholds=_thresholds(str(asked.fields["evidence_digest"])),
        version=after,
        production=before,
        goes=goes,
        summary=summarise(
            after=after.descriptor,
            before=None if before is None else before.descriptor,
            gates=after.gates,
            gates_before=() if before is None else before.gates,
            departments=here.facts.departments(),
            previous=_named(before),
            line=after.name if goes else "",
            alias=here.config.models.taken_by(after.name),
        ),
        ways=ways(digest),
        action=url_for("approval.approve", digest=digest),
        needed=here.config.policy.approvals,
        separates=here.config.separates_roles,
    )


def _approve(digest: str) -> AnyResponse:
    relay("approve", digest)
    return redirect(url_for("pages.promotion"))


def _presented(person: str) -> Presented:
    approves_by = request.form.get("class", OPENPGP)
    if approves_by == WEBAUTHN:
        return Presented.by_security_key({name: request.form.get(name, "")[:_MAX_ANSWER] for name in _ANSWER})
    if approves_by == PASSWORD_TOTP:
        password, totp = (request.form.get(name, "")[:_MAX_FIELD] for name in ("password", "totp"))
        if not password or not totp:
            abort(400, "Fill in password and one-time code.")
        return Presented(approves_by=PASSWORD_TOTP, person=person, password=password, totp=totp)
    if approves_by not in {OPENPGP, PKCS11}:
        abort(400)
    upload = request.files.get("signature")
    signature = upload.read(_MAX_SIGNATURE + 1) if upload is not None else b""
    if not signature or len(signature) > _MAX_SIGNATURE:
        abort(400, "Choose the binary signature file that gpg or the token's tool made.")
    return Presented(approves_by=approves_by, signature=signature)


def _thresholds(evidence_digest: str) -> tuple[str, ...]:
    try:
        return site_thresholds(evidence.read(collaborators.page().config.at, evidence_digest))
    except ProofError as error:
        return (f"not known: {error.what}",)


def _waiting(digest: str) -> PendingRequest:
    found = [one for one in pending_requests(collaborators.page().promoter) if one.digest == digest]
    if not found:
        abort(404, _GONE)
    return found[0]


def _named(row: VersionRow | None) -> str:
    return "" if row is None else f"{row.name} {row.version}"
