"""The application factory: headers, sessions, CSRF, and a default of no.

Every view needs a person who logged in, unless its endpoint is in `OPEN`; a test walks the routes. What is below /api/
needs an automation key instead and opens no session (`appliance.admin.automation`). The content security
policy allows no script but on the pages in `WITH_KEYS`, which speak to security keys by one file of ours.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException

from appliance.actions import alerts, censusnodes, rollout_observed
from appliance.actions import clock as clock_action
from appliance.actions.retention.reviewdesk import Reviews
from appliance.actions.tracing.reading import Readings
from appliance.admin import (
    approval,
    ask,
    automation,
    comparing,
    judging,
    media,
    origin,
    pages,
    people,
    policy,
    reports,
    rollout,
    validation,
    work,
)
from appliance.admin import samples as samples_page
from appliance.admin.collaborators import Page, page, session
from appliance.admin.facts import Facts, Promoter
from appliance.admin.sessions import Attempts, Sessions, is_same
from appliance.audit.client import Ledger
from appliance.config import Config
from appliance.install.trial import Trials
from appliance.promote import actors, breakglass
from appliance.promote.peoplebook import RESET, REVOKED
from appliance.registry import windows
from appliance.standby import permit, voters
from appliance.timekeeping.believed import BelievedClock
from media.clock import Clock
from media.errors import SealiftError

OPEN: Final = frozenset({"static", "people.login", "people.enrol", "health"})
WITH_KEYS: Final = frozenset({"approval.wizard", "work.host", "policy.standing", "people.enrol"})
MAX_BODY_BYTES: Final = 256 * 1024
_OLD_FORM: Final = (
    "The form is not of this session: that ended, or began anew, since the page was shown. Nothing was done. Open the "
    "page again, log in if it asks for that, and send the form from there."
)
_PER_ADDRESS: Final = 120
"""How many requests a minute one address may send with automation keys."""
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": (
        "camera=(), microphone=(), geolocation=(), "
        "publickey-credentials-get=(self), publickey-credentials-create=(self)"
    ),
}


def create_admin_app(
    config: Config,
    *,
    facts: Facts,
    ledger: Ledger,
    promoter: Promoter,
    jobs: Promoter,
    clock: Clock,
    samples: Reviews | None = None,
) -> Flask:
    """Return the page's WSGI application; collaborators are arguments."""
    app = Flask("appliance.admin", template_folder="templates", static_folder="static")
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, TRUSTED_HOSTS=None)
    app.extensions["sealift"] = Page(
        config=config,
        facts=facts,
        ledger=ledger,
        promoter=promoter,
        jobs=jobs,
        sessions=Sessions(clock),
        attempts=Attempts(clock),
        callers=Attempts(clock, per_minute=_PER_ADDRESS),
        clock=clock,
        readings=Readings(clock),
        samples=samples,
    )
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.register_blueprint(people.make_blueprint())
    app.register_blueprint(pages.make_blueprint())
    app.register_blueprint(approval.make_blueprint())
    app.register_blueprint(work.make_blueprint())
    app.register_blueprint(rollout.make_blueprint())
    app.register_blueprint(samples_page.make_blueprint())
    app.register_blueprint(media.make_blueprint())
    app.register_blueprint(validation.make_blueprint())
    app.register_blueprint(comparing.make_blueprint())
    app.register_blueprint(reports.make_blueprint())
    app.register_blueprint(origin.make_blueprint())
    app.register_blueprint(judging.make_blueprint())
    app.register_blueprint(policy.make_blueprint())
    app.register_blueprint(ask.make_blueprint())
    app.register_blueprint(automation.make_blueprint())
    app.before_request(_open_session)
    app.after_request(_finish)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(SealiftError, _our_error)
    app.context_processor(_for_templates)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def cookie_name(config: Config) -> str:
    """Return the cookie's name; `__Host-` binds it to this host, which browsers allow over TLS only."""
    return "__Host-sealift" if config.service.tls else "sealift"


def _open_session() -> Response | tuple[str, int] | None:
    if automation.is_here():
        return automation.admit()
    refused = automation.refuse_on_page()
    if refused is not None:
        return refused
    here = page()
    is_step = request.endpoint != "work.job" or work.AGAIN not in request.args
    g.session = here.sessions.open(request.cookies.get(cookie_name(here.config), ""), is_step=is_step)
    if request.method not in {"GET", "HEAD"} and not _is_own_form():
        if request.endpoint == "people.login":
            return people.shown_again()
        abort(403, _OLD_FORM)
    if request.endpoint in OPEN or request.endpoint is None:
        return None
    if session().person and _was_ended():
        here.sessions.close(session())
        g.session = here.sessions.open("")
    if not session().person:
        answer = redirect(url_for("people.login"))
        return answer if isinstance(answer, Response) else None
    return None


def _was_ended() -> bool:
    """Tell whether who is logged in was revoked or reset since: much of what the page does asks for no password again.

    A reset ends the password by which they logged in, perhaps since somebody else has it.
    """
    here, person = page(), session().person
    try:
        found = [here.ledger.find(kind=kind, field="person", value=person, limit=1) for kind in (REVOKED, RESET)]
    except SealiftError:  # without the ledger nothing is shown that has to be recorded
        return False
    return any(leaf.sequence > session().since for leaves in found for leaf in leaves)


def _is_own_form() -> bool:
    """Tell whether a form is one that this session was shown; what another site's page sends is refused here."""
    origin = request.headers.get("Origin")
    if origin not in {None, "null"} and _host_of(origin or "") != request.host:
        abort(403, "The form was sent by a page of another address.")
    return is_same(session().csrf, request.form.get("csrf", ""))


def _host_of(untrusted_origin: str) -> str:
    try:
        return urlsplit(untrusted_origin).netloc
    except ValueError:  # half an address of IPv6, say
        return ""


def _finish(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers[name] = value
    if request.endpoint in WITH_KEYS:
        policy = f"{HEADERS['Content-Security-Policy']}; script-src 'self'"
        response.headers["Content-Security-Policy"] = policy
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    if "session" in g:
        here = page()
        response.set_cookie(
            cookie_name(here.config),
            session().name,
            httponly=True,
            secure=here.config.service.tls,
            samesite="Strict",
            path="/",
        )
    return response


def _for_templates() -> dict[str, Any]:
    config = page().config
    is_known = "session" in g and bool(session().person)
    return {
        # Strangers learn nothing of what is wrong here.
        "alerts": _alerts(config, page().clock) if is_known else (),
        "returned": Trials(config.at).last_return() if is_known else None,
        "emergencies": _emergencies() if is_known else (),
        "watch_found": _watch_found() if is_known else "",
        "census_fault": _census_fault() if is_known else "",
        "window": _window() if is_known else None,
        "lease": permit.shown(config) if is_known else "",
        "silent_voters": voters.silent(permit.folder_of(config.at)) if is_known and config.standby.lease else (),
        "site": config.site,
        "environment": config.environment,
        "me": session() if "session" in g else None,
        "short": lambda digest: str(digest)[:12],
        "who": lambda actor: actors.shown(str(actor)),
    }


def _emergencies() -> tuple[breakglass.Emergency, ...]:
    here = page()
    try:
        return breakglass.running(here.ledger, BelievedClock(here.config.at, here.clock).now())
    except SealiftError:  # the page itself says that the ledger is away
        return ()


def _watch_found() -> str:
    here = page()
    try:
        return rollout_observed.asks(here.ledger, here.clock)
    except (SealiftError, KeyError, ValueError):  # the page itself says that the ledger is away
        return ""


def _census_fault() -> str:
    here = page()
    try:
        return censusnodes.fault(here.config, here.ledger)
    except (SealiftError, KeyError, ValueError):  # the page itself says that the ledger is away
        return ""


def _window() -> windows.Window | None:
    try:
        return windows.opened(page().ledger)
    except (SealiftError, KeyError, ValueError):  # the page itself says that the ledger is away
        return None


def _alerts(config: Config, clock: Clock) -> tuple[alerts.Alert, ...]:
    # The clock's own alert needs no monitoring to be seen.
    told = alerts.firing(config.at.alerts, clock=clock)
    own = clock_action.alert(config, clock=clock)
    return told if own is None or own.name in {one.name for one in told} else (own, *told)


def _http_error(error: HTTPException) -> Response | tuple[str, int]:
    if automation.is_here():
        return automation.http_answer(error.code or 500, error.name, error.description or "")
    facts = {"what": error.name, "why": error.description or "", "fix": ""}
    return render_template("error.html", **facts), error.code or 500


def _our_error(error: SealiftError) -> Response | tuple[str, int]:
    if automation.is_here() or "as_json" in g:
        return automation.error_answer(error)
    fields = error.to_json()
    status = 503 if str(fields["code"]) in {"wire", "ledger-unavailable"} else 400
    return render_template("error.html", what=fields["what"], why=fields["why"], fix=fields["fix"]), status
