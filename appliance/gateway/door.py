"""What happens to every request before and after its route: an id, who may call, limits, headers, refusals.

A wrong key costs the address its unauthenticated allowance, a right one costs the key's own. A refusal of any kind is
recorded before it is answered, or counted as not recorded where the ledger is down.
"""

from dataclasses import dataclass
from typing import Final

from flask import Flask, Response, g, request
from werkzeug.exceptions import ClientDisconnected, HTTPException

from appliance.config import LimitsSection
from appliance.errors import LedgerUnavailableError
from appliance.gateway import limits, problems
from appliance.gateway import ollama_writing as ollama
from appliance.gateway.access import Access, access_of, is_local
from appliance.gateway.auth import ApiKeys, authenticate, carried
from appliance.gateway.caches import Caches
from appliance.gateway.certificate import presented
from appliance.gateway.disconnect import bound_waits
from appliance.gateway.identity import client_address, new_request_id
from appliance.gateway.limits import Limiter
from appliance.gateway.logs import Event, Log
from appliance.gateway.metrics import Metrics
from appliance.gateway.parameters import Endpoint
from appliance.gateway.problems import Problem
from appliance.gateway.record import Refusal, Refusals
from appliance.gateway.routing import Routes
from appliance.keys.provider import KeyProvider
from appliance.stages import Stage
from appliance.standby.permit import Permit
from media.clock import Clock

_ENDPOINTS: Final = {
    "/v1/chat/completions": Endpoint.CHAT.value,
    "/v1/completions": Endpoint.COMPLETIONS.value,
    "/v1/embeddings": "embeddings",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
    "/v1/models": "models",
    "/v1/models/<path:name>": "models",
    "/v1/feedback": "feedback",
    "/v1/files": "files",
    "/v1/files/<file_id>": "files",
    "/v1/files/<file_id>/content": "files",
    "/v1/batches": "batches",
    "/v1/batches/<batch_id>": "batches",
    "/v1/batches/<batch_id>/cancel": "batches",
    "/api/chat": Endpoint.CHAT.value,
    "/api/generate": Endpoint.CHAT.value,
    "/api/tags": "models",
    "/api/ps": "models",
    "/api/show": "models",
}
_HTTP: Final = {
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", "This route does not take this method."),
    413: ("request_too_large", "The body is too large."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The collaborators of the hooks."""

    limits: LimitsSection
    api_keys: ApiKeys
    keys: KeyProvider
    limiter: Limiter
    refusals: Refusals
    metrics: Metrics
    log: Log
    clock: Clock
    permit: Permit
    stops: Routes
    caches: Caches
    stage: Stage = Stage.PRODUCTION

    def guard(self, app: Flask) -> None:
        """Put the hooks in place."""
        app.before_request(lambda: self._arrive(app.view_functions.get(request.endpoint or "")))
        app.after_request(self._leave)
        app.register_error_handler(Exception, self._refuse)

    def _arrive(self, view: object) -> None:
        g.began = self.clock.monotonic()
        g.request_id = new_request_id()
        g.key = None
        g.allowance = None
        bound_waits(request.environ)
        g.access = access_of(view)
        if g.access is Access.PUBLIC:
            return
        if g.access is Access.LOCAL:
            if not is_local(request.environ):
                raise Problem(404, *_HTTP[404])
            return
        self.permit.require()
        self._admit()
        if request.url_rule is not None and g.access is not Access.KEYED:
            raise Problem(403, "forbidden", "Nobody may call this route.")

    def _admit(self) -> None:
        try:
            untrusted = carried(request.headers.get("Authorization", ""), request.headers.get("X-Api-Key", ""))
            certificate = presented(request.environ)
            key = authenticate(untrusted, api_keys=self.api_keys, keys=self.keys, stage=self.stage)
            certificate.require_for(key.key_id)
        except Problem:
            allowance = self.limiter.take(
                f"address {client_address(request.environ)}", per_minute=self.limits.unauthenticated_per_minute
            )
            if allowance.retry_after_seconds is not None:
                raise problems.rate_limited(allowance.retry_after_seconds) from None
            raise
        g.key = key
        g.certificate = certificate
        g.allowance = allowance = self.limiter.take(
            f"key {key.key_id}", per_minute=limits.per_minute(key.tier, self.limits.requests_per_minute)
        )
        if allowance.retry_after_seconds is not None:
            raise problems.rate_limited(allowance.retry_after_seconds)
        if self.stops.is_stopped(key_id=key.key_id, department=key.department):
            self.caches.forget_key(key.key_id)
            raise problems.stopped()

    def _leave(self, response: Response) -> Response:
        response.headers["x-request-id"] = g.request_id
        response.headers["openai-processing-ms"] = str(round((self.clock.monotonic() - g.began) * 1000))
        response.headers["x-content-type-options"] = "nosniff"
        response.headers.setdefault("cache-control", "no-store")
        if g.allowance is not None:
            response.headers.extend(g.allowance.headers())
        return response

    def _refuse(self, error: Exception) -> Response:
        problem = _problem_of(error)
        if problem.code == "internal_error":
            self.log.fault(error, request_id=g.request_id)
        if not problem.recorded and g.access is not Access.PUBLIC:
            self._record(problem)
        return problem.response(ollama.refusal(problem) if request.path.startswith(ollama.PREFIX) else None)

    def _record(self, problem: Problem) -> None:
        endpoint = _ENDPOINTS.get(request.url_rule.rule, "other") if request.url_rule else "unknown"
        key_id = g.key.key_id if g.key else None
        refusal = Refusal(
            request_id=g.request_id,
            endpoint=endpoint,
            key_id=key_id,
            status=problem.status,
            code=problem.code,
            arm=problem.arm,
            assigned=problem.assigned,
        )
        self.metrics.refused(endpoint=endpoint, code=problem.code)
        self.log.note(
            Event.REFUSED, request_id=g.request_id, endpoint=endpoint, status=problem.status, code=problem.code
        )
        caller = f"key {key_id}" if key_id else f"address {client_address(request.environ)}"
        try:
            self.refusals.add(refusal, caller=caller)
        except LedgerUnavailableError as lost:
            self.metrics.unrecorded()
            self.log.alert(Event.UNRECORDED, request_id=g.request_id, code=lost.code)


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, ClientDisconnected):
        return Problem(408, "request_timeout", "The body did not come in time.")
    if isinstance(error, HTTPException):
        status = error.code or 500
        code, message = _HTTP.get(status, ("http_error", "The request cannot be served."))
        problem = Problem(status, code, message)
        allowed = getattr(error, "valid_methods", None)
        if allowed:
            problem.headers["allow"] = ", ".join(sorted(allowed))
        return problem
    return problems.from_error(error)
