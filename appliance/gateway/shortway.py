"""Flask without what no route of ours uses, and a short way through it for the routes that are asked all the time.

On the short way a request meets the same hooks, the same view and the same handler of errors as on Flask's own; what is
left out is finding them: contexts, matching of addresses, sessions. Whatever is not plain goes Flask's own way.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from flask import Flask, Request, Response, g, request
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from appliance.gateway.disconnect import DisconnectWatch, caller_socket
from appliance.gateway.lagging import NOBODYS, WHOSE, Lagging, Paced, Reader
from appliance.gateway.streaming import AnswerStream
from media.clock import Clock

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_MOST_HOSTS: Final = 64
_SERVED: Final[ContextVar[tuple[Request, Any] | None]] = ContextVar("sealift-served", default=None)


def served() -> tuple[Request, Any]:
    """Return the request that is served and what is noted of it, whichever way it came."""
    found = _SERVED.get()
    if found is None:  # Flask's own names would look them up at each use
        return request._get_current_object(), g._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - documented
    return found


class _NoSessions(SessionInterface):
    """Nobody has one: what a caller is and may rests on the key of each request."""

    _none: Final = NullSession()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:  # noqa: ARG002 - as the base has it
        return self._none

    def is_null_session(self, obj: object) -> bool:
        return obj is self._none

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Keep nothing."""


class Gateway(Flask):
    """The application.

    Args:
        name: Of Flask's.
        clock: Its monotonic seconds are used.
        lagging: What is kept for callers who read slowly.
        watch: Knows whether this process stops: who reads slowly is hurried then, and not waited for at its end.
    """

    session_interface = _NoSessions()

    def __init__(self, name: str, clock: Clock, *, lagging: Lagging, watch: DisconnectWatch) -> None:
        # No static folder: a route exists because it was decided on.
        super().__init__(name, static_folder=None)
        self._short: dict[str, tuple[Rule, Callable[[], Any]]] = {}
        self._hosts: set[str] = set()
        self._clock = clock
        self._lagging = lagging
        self._is_ending = lambda: watch.is_ending
        self._is_stopping = lambda: watch.is_stopping

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the view or hook as it is: none of ours is a coroutine."""
        return func

    def shorten(self, *paths: str) -> None:
        """Serve these POST routes, which have no variables, on the short way; all hooks are in place by then.

        Where there are hooks or handlers that the short way does not know, all stay on Flask's own.
        """
        if not self._knows_all_hooks():
            return
        for rule in self.url_map.iter_rules():
            if rule.rule in paths and rule.methods == {"POST"}:
                self._short[rule.rule] = (rule, self.view_functions[rule.endpoint])

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request; what is no stream of an engine's is sent as its caller reads it."""
        told = self.wsgi_app(environ, start_response)
        if isinstance(told, AnswerStream):
            return told
        reader = Reader(
            caller_socket(environ), clock=self._clock, has_left=self._is_ending, is_hurried=self._is_stopping
        )
        return Paced(told, reader, self._lagging, whose=environ.get(WHOSE, NOBODYS))

    def wsgi_app(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        found = self._short.get(environ.get("PATH_INFO", "")) if environ["REQUEST_METHOD"] == "POST" else None
        if found is None or not self._is_plain(environ):
            return super().wsgi_app(environ, start_response)
        asked = self.request_class(environ)
        asked.url_rule, asked.view_args = found[0], {}
        asked.max_content_length = self.config["MAX_CONTENT_LENGTH"]
        token = _SERVED.set((asked, SimpleNamespace()))
        try:
            try:
                response = self._answered(found[1])
            except Exception as error:  # noqa: BLE001 - as Flask does where a hook fails
                with self.request_context(environ):
                    response = self.handle_exception(error)
            return response(environ, start_response)
        finally:
            _SERVED.reset(token)

    def _answered(self, view: Callable[[], Any]) -> Response:
        try:
            said: Any = None
            for arrive in self.before_request_funcs.get(None, ()):
                if (said := arrive()) is not None:
                    break
            response = self.make_response(view() if said is None else said)
        except Exception as error:  # noqa: BLE001 - the handler tells what is whose
            handle: Callable[[Exception], Any] = self.error_handler_spec[None][None][Exception]
            response = self.make_response(handle(error))
        for leave in reversed(self.after_request_funcs.get(None, ())):
            response = cast("Response", leave(response))
        return response

    def _knows_all_hooks(self) -> bool:
        """Tell whether there are none but those of the whole application, and one handler, for every error."""
        hooks = (self.before_request_funcs, self.after_request_funcs, self.error_handler_spec)
        ending = (self.teardown_request_funcs, self.teardown_appcontext_funcs, self.url_value_preprocessors)
        handlers = self.error_handler_spec[None]
        return (
            not any(ending)
            and not any(found for kind in hooks for whose, found in kind.items() if whose is not None)
            and [code for code, found in handlers.items() if found] == [None]
            and set(handlers[None]) == {Exception}
        )

    def _is_plain(self, environ: "WSGIEnvironment") -> bool:
        """Tell whether Flask would find nothing to object to: a host of proper form, no other protocol asked for."""
        if environ.get("SCRIPT_NAME") or "HTTP_UPGRADE" in environ or "werkzeug.debug.preserve_context" in environ:
            return False
        host = environ.get("HTTP_HOST", "")
        if host not in self._hosts:
            try:
                self.create_url_adapter(self.request_class(environ))
            except HTTPException:
                return False
            if len(self._hosts) >= _MOST_HOSTS:
                self._hosts.clear()
            self._hosts.add(host)
        return True
