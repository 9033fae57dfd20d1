"""A person asks a version in a real browser, on a page without scripts, and follows the answer to its origin."""

from pathlib import Path

import pytest

from tests.support.askpage import PASSWORD, PERSON, page_beside
from tests.support.browser import chromium, served
from tests.support.engine import Script
from tests.support.gateway import key_text
from tests.support.gateway_server import gateway_server
from tests.support.ports import held_port

pytestmark = pytest.mark.browser
EVIL = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"


def test_a_question_is_asked_and_answered_as_text_and_its_key_is_forgotten(tmp_path: Path) -> None:
    port = held_port()
    base = f"http://127.0.0.1:{port}"
    with (
        gateway_server(tmp_path) as server,
        page_beside(server) as app,
        served(app, port),
        chromium(tmp_path / "profile") as context,
    ):
        tab = context.new_page()
        faults: list[str] = []
        tab.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
        tab.goto(f"{base}/login")
        tab.fill("#person", PERSON)
        tab.fill("#password", PASSWORD)
        tab.get_by_role("button", name="Log in").click()
        tab.goto(f"{base}/ask")
        assert tab.locator("script").count() == 0
        assert tab.get_by_role("link", name="Ask", exact=True).get_attribute("aria-current") == "page"

        tab.get_by_label("Question").fill("hello\nthere")
        tab.get_by_label("API key of yours").fill(key_text("zzzzzzzz23"))
        tab.get_by_role("button", name="Ask", exact=True).click()
        assert "invalid_api_key" in tab.get_by_role("alert").inner_text()
        assert tab.get_by_label("Question").input_value() == "hello\nthere"
        assert tab.get_by_label("API key of yours").input_value() == ""

        server.engine.script = Script(text=EVIL)
        tab.get_by_label("API key of yours").fill(server.key)
        tab.get_by_label("API key of yours").press("Enter")
        tab.get_by_role("heading", name="Answer", exact=True).wait_for()
        assert tab.locator("#answer pre").inner_text() == EVIL
        assert tab.title().startswith("Ask")
        assert server.engine.last["messages"][-1]["content"] == "hello\nthere"
        assert tab.get_by_label("API key of yours").input_value() == ""
        wide = tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert wide, "nothing runs over the side"

        tab.get_by_role("link", name="where this answer is from").click()
        tab.get_by_role("heading", name="Origin of an answer").wait_for()
        assert tab.locator("#records tbody tr").first.inner_text().startswith("request\tyes")
        assert faults == []
