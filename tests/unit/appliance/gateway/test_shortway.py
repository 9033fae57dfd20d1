"""The short way answers as Flask's own does: same hooks, same handler of errors, same refusals of what is not plain."""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Response, g
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder

from appliance.gateway import leakcheck
from appliance.gateway.disconnect import DisconnectWatch
from appliance.gateway.lagging import CallerLagsError, Lagging
from appliance.gateway.shortway import Gateway, served
from media.clock import SystemClock


def _app(*, short: bool, fails: str = "", watch: DisconnectWatch | None = None) -> Gateway:
    app = Gateway("test", SystemClock(), lagging=Lagging(), watch=watch or DisconnectWatch())
    app.config.update(MAX_CONTENT_LENGTH=8, PROVIDE_AUTOMATIC_OPTIONS=False)

    def arrive() -> None:
        served()[1].word = "noted"
        if fails == "arrive":
            raise ValueError(fails)

    def leave(response: Response) -> Response:
        asked, noted = served()
        response.headers["x-seen"] = f"{noted.word} {asked.method} {asked.path} {asked.url_rule}"
        if fails == "leave":
            raise ValueError(fails)
        return response

    def refuse(error: Exception) -> Response:
        if fails == "refuse" and isinstance(error, ValueError):
            raise RuntimeError(fails)
        code = error.code if isinstance(error, HTTPException) else 500
        return Response(type(error).__name__, status=code or 500)

    def view() -> Response:
        if fails in {"view", "refuse"}:
            raise ValueError(fails)
        return Response(b"said " + served()[0].get_data(cache=False))

    app.before_request(arrive)
    app.after_request(leave)
    app.register_error_handler(Exception, refuse)
    app.post("/ask")(view)
    app.get("/other")(lambda: Response(g.word))
    if short:
        app.shorten("/ask", "/other")
    return app


def _seen(app: Gateway, method: str, path: str, **more: Any) -> tuple[int, bytes, dict[str, str]]:
    answer = app.test_client().open(path, method=method, **more)
    return answer.status_code, answer.data, dict(answer.headers)


@pytest.mark.parametrize("fails", ["", "arrive", "view", "refuse", "leave"])
@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/ask", {"data": b"hello"}),
        ("POST", "/ask", {"data": b"more than eight"}),
        ("POST", "/ask?a=b", {"data": b""}),
        ("POST", "/ask", {"data": b"a", "headers": {"Host": "a..b"}}),
        ("POST", "/ask", {"data": b"a", "headers": {"Host": "box.example:8443"}}),
        ("POST", "/ask", {"data": b"a", "headers": {"Connection": "upgrade", "Upgrade": "websocket"}}),
        ("GET", "/ask", {}),
        ("POST", "/ask/", {}),
        ("POST", "//ask", {}),
        ("GET", "/other", {}),
        ("GET", "/nothing", {}),
    ],
)
def test_an_answer_is_the_same_on_both_ways(method: str, path: str, more: dict[str, Any], fails: str) -> None:
    assert _seen(_app(short=True, fails=fails), method, path, **more) == _seen(
        _app(short=False, fails=fails), method, path, **more
    )


def test_a_plain_request_goes_the_short_way_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    app = _app(short=True)
    assert _seen(app, "POST", "/ask", data=b"one")[:2] == (200, b"said one")

    monkeypatch.setattr(app, "full_dispatch_request", None)  # Flask's own way
    assert _seen(app, "POST", "/ask", data=b"two")[:2] == (200, b"said two")
    with pytest.raises(RuntimeError):
        served()


def test_a_hook_that_answers_itself_is_heard_and_the_view_is_not_asked() -> None:
    def made(*, short: bool) -> Gateway:
        app = _app(short=False)
        app.before_request(lambda: Response("not you", status=403))
        if short:
            app.shorten("/ask")
        return app

    assert _seen(made(short=True), "POST", "/ask", data=b"a")[:2] == (403, b"not you")
    assert _seen(made(short=True), "POST", "/ask", data=b"a") == _seen(made(short=False), "POST", "/ask", data=b"a")


def _blueprint_hook(app: Gateway) -> None:
    blueprint = Blueprint("apart", "apart")
    blueprint.before_request(lambda: Response("not you", status=403))
    blueprint.post("/apart")(lambda: Response("said"))
    app.register_blueprint(blueprint)


@pytest.mark.parametrize(
    "more",
    [
        _blueprint_hook,
        lambda app: app.teardown_request(lambda _: None),
        lambda app: app.register_error_handler(404, lambda _: Response("nothing")),
        lambda app: app.register_error_handler(ValueError, lambda _: Response("a value")),
    ],
)
def test_where_there_are_hooks_it_does_not_know_nothing_is_shortened(more: Callable[[Gateway], None]) -> None:
    app = _app(short=False)
    more(app)
    app.shorten("/ask", "/apart")

    assert app._short == {}


def test_the_gateways_own_questions_go_the_short_way(tmp_path: Path) -> None:
    app, _ = leakcheck._gateway(tmp_path, tmp_path / "engine", "a" * 64)

    assert isinstance(app, Gateway)
    assert set(app._short) == {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}


def test_an_answer_that_is_not_read_ends_when_the_process_waits_for_nobody_any_more() -> None:
    watch = DisconnectWatch()
    app = _app(short=True, watch=watch)
    app.config["MAX_CONTENT_LENGTH"] = None
    ours, callers = socket.socketpair()
    with ours, callers:
        asked = EnvironBuilder(path="/ask", method="POST", data=b"x" * 4_000_000).get_environ()
        told = app({**asked, "gunicorn.socket": ours}, lambda *_: lambda _: None)
        ending = threading.Timer(0.5, watch.end)
        ending.start()
        began = time.monotonic()
        with pytest.raises(CallerLagsError):
            _send(ours, told)
        ending.join()

        assert time.monotonic() - began < 20, "and not after half a minute and more"


def _send(ours: socket.socket, told: Iterable[bytes]) -> None:
    for piece in told:
        ours.sendall(piece)


def test_many_hosts_are_not_remembered_for_ever() -> None:
    app = _app(short=True)
    for number in range(200):
        assert _seen(app, "POST", "/ask", data=b"a", headers={"Host": f"box-{number}.example"})[0] == 200

    assert len(app._hosts) <= 64
