"""A scrape asks engines for their figures: it ends soon whatever they do, and one engine takes nothing from another."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from appliance.gateway import enginefigures
from appliance.gateway.enginefigures import EngineFigures
from appliance.gateway.routing import Route
from tests.support.gateway import MODEL, OneRoute
from tests.support.unix_http import listening
from tests.support.versions import short_folder

SECONDS = 1.0  # enough for an engine that is well, on a machine that has other work
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"
"""Of more than ever comes."""
TOLD = b"vllm:num_requests_running 3.0\n"
WELL = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(TOLD), TOLD)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enginefigures, "_SECONDS", SECONDS)


@contextmanager
def saying(path: Path, first: bytes, *, then: bytes = b"") -> Iterator[None]:
    """Answer with the first bytes at once, and then with others again and again, which never ends."""
    ended = threading.Event()

    def run(listener: socket.socket) -> None:
        with suppress(OSError), listener.accept()[0] as connection:
            connection.sendall(first)
            while not ended.wait(SECONDS / 10):
                connection.sendall(then)

    with listening(path, run):
        yield
        ended.set()


def scraped(first: Path) -> tuple[dict[str, float], float]:
    """Return how many requests each engine says that it runs, and how long it took to ask."""
    route = Route(name=MODEL, version="one", model_digest="a" * 64, serial=1, release="demo", socket=first, created=0)
    began = time.monotonic()
    families = {one.name: one for one in EngineFigures(OneRoute(route)).collect()}
    running = {one.labels["engine"]: one.value for one in families["sealift_engine_requests_running"].samples}
    return running, time.monotonic() - began


@pytest.mark.parametrize(("first", "then"), [(HEAD, b"X: y\r\n"), (HEAD + b"\r\n" + TOLD, b"x"), (b"", b"")])
def test_an_engine_that_never_ends_its_answer_is_given_up(first: bytes, then: bytes) -> None:
    with short_folder() as folder, saying(folder / "one.sock", first, then=then):
        found, took = scraped(folder / "one.sock")

    assert found == {}
    assert took < 30 * SECONDS


def test_many_that_are_silent_take_as_long_as_one_and_nothing_from_one_that_is_well() -> None:
    words = ["", *(f"-{number}" for number in range(2, 10)), "-cpu"]
    with short_folder() as folder, ExitStack() as stack:
        for word in words:
            stack.enter_context(saying(folder / f"e{word}.sock", WELL if word == "-cpu" else b""))

        found, took = scraped(folder / "e.sock")

    assert found == {"cpu": 3.0}
    assert took < 7 * SECONDS, "one after the other they would take nine"
