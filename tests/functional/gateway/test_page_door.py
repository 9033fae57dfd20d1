"""Asking on the page against the gateway as its unit runs it: the page's own socket, one ledger and one state."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import urllib3
from flask.testing import FlaskClient

from appliance.unixhttp import UnixPool
from tests.support.adminpage import token
from tests.support.askpage import PASSWORD, PERSON, page_beside
from tests.support.engine import MODEL_DIGEST
from tests.support.gateway import MODEL, key_text
from tests.support.gateway_server import Server, gateway_server

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

SECRET = "kestrel-prompt"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = "unauthenticated_per_minute = 2"
    with gateway_server(tmp_path_factory.mktemp("g"), limits=limits) as running:
        yield running


@pytest.fixture
def browser(server: Server) -> Iterator[FlaskClient]:
    with page_beside(server) as app:
        found = app.test_client()
        found.post("/login", data={"csrf": token(found, "/login"), "person": PERSON, "password": PASSWORD})
        yield found


def ask(browser: FlaskClient, key: str, address: str = "10.1.2.3") -> tuple[int, str]:
    form = {"question": SECRET, "stage": "production", "model": MODEL, "max_tokens": "256", "key": key}
    # As over the page's socket: the web server alone says who calls.
    shown = browser.post(
        "/ask",
        data={"csrf": token(browser, "/ask"), **form},
        headers={"X-Forwarded-For": address},
        environ_overrides={"REMOTE_ADDR": ""},
    )
    return shown.status_code, shown.text


def test_an_answer_is_recorded_and_its_origin_is_one_link_away(server: Server, browser: FlaskClient) -> None:
    status, text = ask(browser, server.key)

    assert status == 200
    assert f"You said: {SECRET}" in text
    assert f'href="/versions/{MODEL_DIGEST}"' in text
    link = re.search(r'href="(/origin\?request=(req_\w+))"', text)
    assert link is not None
    server.wait_for_outcome(1)
    assert {one["request_id"]: one["outcome"] for one in server.outcomes()}[link[2]] == "ok"
    shown = browser.get(link[1]).text
    assert re.search(r'<tr><td>request</td><td class="ok">yes</td>', shown)
    assert SECRET not in shown
    assert SECRET.encode() not in server.stderr.read_bytes()


def test_wrong_keys_are_counted_for_each_address_that_the_web_server_names(
    server: Server, browser: FlaskClient
) -> None:
    wrong = key_text("zzzzzzzz23")

    guessed = [ask(browser, wrong, "10.9.9.9")[0] for _ in range(3)]

    assert guessed == [401, 401, 429]
    assert ask(browser, wrong, "10.9.9.8")[0] == 401
    assert ask(browser, server.key, "10.9.9.9")[0] == 200


def over(server: Server, door: str, path: str, headers: Mapping[str, str]) -> int:
    """Ask over a Unix socket as its other side could; returns the status."""
    pool = UnixPool(server.site.places.socket(door), size=1, timeout=urllib3.Timeout(10.0))
    try:
        return pool.request("GET", path, headers=headers).status
    finally:
        pool.close()


def test_on_the_pages_socket_nothing_is_the_machines_or_the_web_servers_word(server: Server) -> None:
    showing = {"authorization": f"Bearer {server.key}", "x-sealift-client": "not of this box"}

    assert over(server, "gateway", "/metrics", {}) == 200
    assert over(server, "gateway-admin", "/metrics", {}) == 404
    assert over(server, "gateway", "/v1/models", showing) == 403
    assert over(server, "gateway-admin", "/v1/models", showing) == 200


def test_a_gateway_that_ended_is_told_without_a_path(server: Server, browser: FlaskClient, tmp_path: Path) -> None:
    place = server.site.places.socket("gateway-admin")
    place.rename(away := tmp_path / "away.sock")
    try:
        status, text = ask(browser, server.key)
    finally:
        away.rename(place)

    assert status == 503
    assert "sealift status" in text
    assert str(place) not in text
