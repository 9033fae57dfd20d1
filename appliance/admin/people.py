"""Login, logout and enrolment. The page keeps no password: the promoter checks it."""

import base64
from contextlib import suppress
from typing import Any, Final

import segno
from flask import Blueprint, abort, g, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response

from appliance.admin import collaborators
from appliance.promote.classes import WEBAUTHN
from appliance.promote.passwords import LONGEST_PASSWORD
from appliance.wire import RemoteError
from media.errors import SealiftError

_MAX_FIELD = 200
_MAX_PASSWORD: Final = LONGEST_PASSWORD + 1
"""One more than any has, so that a longer one is refused, and never taken without its end."""
_MAX_CERTIFICATE = 64 * 1024
_MAX_ANSWER = 8 * 1024
# What says nothing of a name or a password.
_FAILURES: Final = frozenset(
    {"internal", "database", "ledger-unavailable", "ledger-full", "ledger-damaged", "store-damaged", "no-space"}
)
_REFUSED: Final = (
    "The name or the password is wrong. After five wrong ones none is looked at for ten minutes, not even the right "
    "one."
)
_REGISTRATION: Final = ("challenge", "credential_id", "attestation", "client_data")


def make_blueprint() -> Blueprint:
    """Return the routes of people."""
    blueprint = Blueprint("people", __name__)
    blueprint.add_url_rule("/login", "login", _login, methods=["GET", "POST"])
    blueprint.add_url_rule("/logout", "logout", _logout, methods=["POST"])
    blueprint.add_url_rule("/enrol", "enrol", _enrol, methods=["GET", "POST"])
    return blueprint


def _field(name: str) -> str:
    value = request.form.get(name, "").strip()
    if len(value) > _MAX_FIELD:
        abort(400)
    return value


def caller_address() -> str:
    """Return who calls: over TCP the peer, over our Unix socket the last address, which nginx wrote itself."""
    forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    return request.remote_addr or forwarded[:45]


def _login() -> Response | str | tuple[str, int]:
    if request.method == "GET":
        return render_template("login.html", problem="")
    here = collaborators.page()
    person = _field("person")
    if not here.attempts.allow(f"address {caller_address()}", f"login {person}"):
        return render_template("login.html", problem="Too many attempts. Wait a minute."), 429
    # Who is revoked while the password is looked at is not let in by it.
    known = here.ledger.head().size
    try:
        found = here.promoter.call("login", person=person, password=request.form.get("password", "")[:_MAX_PASSWORD])
    except RemoteError as error:
        # An unknown name and a wrong password read alike, here and in the record.
        here.ledger.append("admin.login-refused", {"code": error.remote_code})
        if error.remote_code in _FAILURES:
            raise
        return render_template("login.html", problem=_REFUSED), 401
    here.ledger.append("admin.login", {"person": str(found["person"])})
    g.session = here.sessions.login(
        collaborators.session(),
        person=str(found["person"]),
        display_name=str(found.get("name", found["person"])),
        roles=tuple(str(role) for role in found.get("roles", [])),
        since=known - 1,
    )
    return redirect(url_for("pages.overview"))


def shown_again() -> tuple[str, int]:
    """Return the login for whoever sends one that was shown in a session which is over: nothing of it is looked at."""
    return render_template("login.html", problem="This page was open for too long. Log in again."), 403


def _logout() -> Response:
    here, ended = collaborators.page(), collaborators.session()
    # First, since whoever leaves is gone, also where that cannot be recorded.
    here.sessions.close(ended)
    g.session = here.sessions.open("")
    here.ledger.append("admin.logout", {"person": ended.person})
    return redirect(url_for("people.login"))


def _enrol() -> Response | str | tuple[str, int]:
    if request.method == "GET":
        return _enrol_form()
    here = collaborators.page()
    if not here.attempts.allow(f"address {caller_address()}"):
        return _enrol_form("Too many attempts. Wait a minute."), 429
    password = request.form.get("password", "")
    keys = {name: _file(name) for name in ("certificate", "token_key")}
    if password != request.form.get("again", "") or any(len(key) > _MAX_CERTIFICATE for key in keys.values()):
        return _enrol_form("The two passwords differ, or a file is too large to be a key."), 400
    brought: dict[str, Any] = {name: base64.b64encode(key).decode() for name, key in keys.items() if key}
    if request.form.get("attestation"):
        brought["registration"] = {name: request.form.get(name, "")[:_MAX_ANSWER] for name in _REGISTRATION}
    if request.form.get("totp") == "yes":
        brought["totp"] = True
    try:
        done = here.promoter.call(
            "enrol",
            code=_field("code"),
            person=_field("person"),
            name=_field("name"),
            password=password[:_MAX_PASSWORD],
            **brought,
        )
    except RemoteError as error:
        fields = error.to_json()
        return _enrol_form(f"{fields['what']}: {fields['why']}. {fields['fix']}"), 400
    address, printed = str(done.get("totp_address", "")), str(done.get("printed_code", ""))
    if not address and not printed:
        return redirect(url_for("people.login"))
    code = Markup(segno.make(address).svg_inline(scale=4)) if address else ""  # noqa: S704 - made here, of no markup
    return render_template("enrolled.html", address=address, printed=printed, code=code)


def _enrol_form(problem: str = "") -> str:
    """Return the form; each time with a new challenge for a security key, where those count."""
    here = collaborators.page()
    register: dict[str, Any] = {}
    if WEBAUTHN in here.config.policy.classes:
        # Without the promoter the form is shown all the same, and says what is wrong when it is sent.
        with suppress(SealiftError):
            register = here.promoter.call("register")
    return render_template("enrol.html", problem=problem, register=register, classes=here.config.policy.classes)


def _file(name: str) -> bytes:
    upload = request.files.get(name)
    return upload.read(_MAX_CERTIFICATE + 1) if upload is not None else b""
