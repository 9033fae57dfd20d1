"""What happens to every request before and after its route: an id, who may call, limits, headers, refusals.

A wrong key costs the address its unauthenticated allowance, a right one costs the key's own. A refusal of any kind is
recorded before it is answered, or counted as not recorded where the ledger is down.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask, Response
from werkzeug.exceptions import ClientDisconnected, HTTPException

from appliance.config import LimitsSection
from appliance.errors import LedgerUnavailableError
from appliance.gateway import limits, problems
from appliance.gateway import ollama_writing as ollama
from appliance.gateway.access import Access, access_of, is_local
from appliance.gateway.auth import ApiKeys, authenticate, carried
from appliance.gateway.caches import HEADER as _OF_CACHES
from appliance.gateway.caches import HIT, Caches
from appliance.gateway.certificate import presented
from appliance.gateway.disconnect import bound_waits
from appliance.gateway.identity import client_address, new_request_id
from appliance.gateway.lagging import WHOSE
from appliance.gateway.limits import Limiter
from appliance.gateway.logs import Event, Log
from appliance.gateway.metrics import Metrics
from appliance.gateway.parameters import Endpoint
from appliance.gateway.patience import Patience
from appliance.gateway.problems import Problem
from appliance.gateway.quotas import Quotas
from appliance.gateway.record import Refusal, Refusals
from appliance.gateway.resting import Resting
from appliance.gateway.routing import Routes
from appliance.gateway.shortway import served
from appliance.keys.provider import KeyProvider
from appliance.stages import Stage
from appliance.standby.permit import Permit
from media.clock import Clock
from media.errors import SealiftError

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
_OF_TOKENS: Final = "x-ratelimit-limit-tokens"
_HTTP: Final = {
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", "This route does not take this method."),
    413: ("request_too_large", "The body is too large."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The collaborators of the hooks; `limiter` counts keys' requests, `addresses` who comes without a valid one."""

    limits: LimitsSection
    api_keys: ApiKeys
    keys: KeyProvider
    limiter: Limiter
    addresses: Limiter
    quotas: Quotas
    refusals: Refusals
    metrics: Metrics
    log: Log
    clock: Clock
    permit: Permit
    stops: Routes
    caches: Caches
    resting: Resting
    patience: Patience
    stage: Stage = Stage.PRODUCTION
    needs_certificates: bool = False

    def guard(self, app: Flask) -> None:
        """Put the hooks in place."""
        app.before_request(lambda: self._arrive(app.view_functions))
        app.after_request(self._leave)
        app.register_error_handler(Exception, self._refuse)

    def _arrive(self, views: Mapping[str, object]) -> None:
        asked, noted = served()
        noted.began = self.clock.monotonic()
        noted.request_id = new_request_id()
        noted.key = None
        noted.allowance = None
        bound_waits(asked.environ)
        noted.access = access = access_of(views.get(asked.endpoint or ""))
        if access is Access.PUBLIC:
            return
        if access is Access.LOCAL:
            if not is_local(asked.environ):
                raise Problem(404, *_HTTP[404])
            return
        self.permit.require()
        self._admit(asked.environ, noted)
        if asked.url_rule is not None and access is not Access.KEYED:
            raise Problem(403, "forbidden", "Nobody may call this route.")

    def _admit(self, environ: Mapping[str, Any], noted: Any) -> None:
        try:
            untrusted = carried(environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", ""))
            certificate = presented(environ, is_needed=self.needs_certificates)
            key = authenticate(untrusted, api_keys=self.api_keys, keys=self.keys, stage=self.stage)
            certificate.require_for(key.key_id)
        except Problem:
            allowance = self.addresses.take(
                f"address {client_address(environ)}", per_minute=self.limits.unauthenticated_per_minute
            )
            if allowance.retry_after_seconds is not None:
                raise problems.rate_limited("address", allowance.retry_after_seconds) from None
            raise
        noted.key = key
        noted.certificate = certificate
        noted.allowance = allowance = self.limiter.take(
            f"key {key.key_id}", per_minute=limits.ceiling(key.tier, self.limits.requests_per_minute)
        )
        if allowance.retry_after_seconds is not None:
            raise problems.rate_limited("requests", allowance.retry_after_seconds)
        if self.stops.is_stopped(key_id=key.key_id, department=key.department):
            self.caches.forget_key(key.key_id)
            raise problems.stopped()

    def _leave(self, response: Response) -> Response:
        asked, noted = served()
        if noted.key is not None:
            asked.environ[WHOSE] = (noted.key.key_id, getattr(response, "held_bytes", 0))
        headers = response.headers
        version = headers.get("x-model-version")
        if version and headers.get(_OF_CACHES) != HIT:  # of a cache alone no engine was asked
            self.patience.answered(version)
        headers.setdefault("cache-control", "no-store")
        # Added, not set: nothing else names these, and setting looks through all that are there.
        headers.add("x-request-id", noted.request_id)
        headers.add("openai-processing-ms", str(round((self.clock.monotonic() - noted.began) * 1000)))
        headers.add("x-content-type-options", "nosniff")
        if noted.allowance is not None:
            for name, value in noted.allowance.headers().items():
                headers.add(name, value)
        return response

    def _refuse(self, error: Exception) -> Response:
        request, noted = served()
        problem = _problem_of(error)
        if problem.code == "internal_error":
            self.log.fault(error, request_id=noted.request_id)
        if not problem.recorded and noted.access is not Access.PUBLIC:
            self._record(problem)
        if problem.status == 429 and noted.key is not None and _OF_TOKENS not in problem.headers:
            with suppress(SealiftError):  # what cannot be told is not
                problem.headers.update(self.quotas.left(noted.key.key_id, noted.key.tier))
        problem = self.resting.explained(self.patience.told(problem, key_id=noted.key.key_id if noted.key else ""))
        return problem.response(ollama.refusal(problem) if request.path.startswith(ollama.PREFIX) else None)

    def _record(self, problem: Problem) -> None:
        request, noted = served()
        endpoint = _ENDPOINTS.get(request.url_rule.rule, "other") if request.url_rule else "unknown"
        key_id = noted.key.key_id if noted.key else None
        refusal = Refusal(
            request_id=noted.request_id,
            endpoint=endpoint,
            key_id=key_id,
            status=problem.status,
            code=problem.code,
            arm=problem.arm,
            assigned=problem.assigned,
            model_digest=problem.model_digest,
        )
        self.metrics.refused(endpoint=endpoint, code=problem.code, is_fault=problem.is_fault)
        said = {"request_id": noted.request_id, "endpoint": endpoint, "status": problem.status, "code": problem.code}
        if problem.is_fault:
            self.log.alert(Event.REFUSED, **said, error=problem.reason or problem.code)
        else:
            self.log.note(Event.REFUSED, **said)
        caller = f"key {key_id}" if key_id else f"address {client_address(request.environ)}"
        try:
            self.refusals.add(refusal, caller=caller)
        except LedgerUnavailableError as lost:
            self.metrics.unrecorded()
            self.log.alert(Event.UNRECORDED, request_id=noted.request_id, code=lost.code)


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
