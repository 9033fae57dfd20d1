"""Login, logout and enrolment. The page keeps no password: the promoter checks it."""

import base64

from flask import Blueprint, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from appliance.admin import collaborators
from appliance.wire import RemoteError

_MAX_FIELD = 200
_MAX_CERTIFICATE = 64 * 1024


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


def _address() -> str:
    """Return who calls: over TCP the peer, over our Unix socket the last address, which nginx wrote itself."""
    forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    return request.remote_addr or forwarded[:45]


def _login() -> Response | str | tuple[str, int]:
    if request.method == "GET":
        return render_template("login.html", problem="")
    here = collaborators.page()
    person = _field("person")
    if not here.attempts.allow(f"address {_address()}", f"person {person}"):
        return render_template("login.html", problem="Too many attempts. Wait a minute."), 429
    try:
        found = here.promoter.call("login", person=person, password=request.form.get("password", "")[:_MAX_FIELD])
    except RemoteError as error:
        # An unknown name and a wrong password read alike, here and in the record.
        here.ledger.append("admin.login-refused", {"code": str(error.to_json()["code"])})
        return render_template("login.html", problem="The name or the password is wrong."), 401
    here.ledger.append("admin.login", {"person": str(found["person"])})
    g.session = here.sessions.login(
        collaborators.session(),
        person=str(found["person"]),
        display_name=str(found.get("name", found["person"])),
        roles=tuple(str(role) for role in found.get("roles", [])),
    )
    return redirect(url_for("pages.overview"))


def _logout() -> Response:
    here = collaborators.page()
    here.ledger.append("admin.logout", {"person": collaborators.session().person})
    here.sessions.close(collaborators.session())
    g.session = here.sessions.open("")
    return redirect(url_for("people.login"))


def _enrol() -> Response | str | tuple[str, int]:
    if request.method == "GET":
        return render_template("enrol.html", problem="")
    here = collaborators.page()
    if not here.attempts.allow(f"address {_address()}"):
        return render_template("enrol.html", problem="Too many attempts. Wait a minute."), 429
    password = request.form.get("password", "")
    if password != request.form.get("again", ""):
        return render_template("enrol.html", problem="The two passwords differ."), 400
    upload = request.files.get("certificate")
    certificate = upload.read(_MAX_CERTIFICATE + 1) if upload is not None else b""
    if not certificate or len(certificate) > _MAX_CERTIFICATE:
        return render_template("enrol.html", problem="Choose your OpenPGP certificate (a binary file)."), 400
    try:
        here.promoter.call(
            "enrol",
            code=_field("code"),
            person=_field("person"),
            name=_field("name"),
            certificate=base64.b64encode(certificate).decode(),
            password=password[:_MAX_FIELD],
        )
    except RemoteError as error:
        fields = error.to_json()
        return render_template("enrol.html", problem=f"{fields['what']}. {fields['fix']}"), 400
    return redirect(url_for("people.login"))
