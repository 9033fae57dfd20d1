"""A person holds one version against another in a real browser: chooses both, sees figures and a picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.adminpage import page_of
from tests.support.browser import chromium, faults_of, served
from tests.support.floor import Floor, open_floor
from tests.support.ports import held_port
from tests.support.promotion import PASSWORD
from tests.support.signatories import signatories

pytestmark = pytest.mark.browser
ANA = signatories()[0]
ODD = 'Q8_0 <b>"x"</b>'
"""A level as no release names it: what a page made of it would be seen."""
COLOURS = ("#2a6f97", "#b5651d")
"""Of the two sides."""


@dataclass(slots=True, kw_only=True)
class Opened:
    """A site that serves one of three versions, whose page Ana has open; the third one fails its task set."""

    floor: Floor
    tab: Any
    serving: str
    other: str
    dumb: str

    def choose(self, first: str, second: str) -> None:
        self.tab.get_by_label("Hold against").select_option(first)
        self.tab.get_by_label("Version", exact=True).select_option(second)
        self.tab.get_by_role("button", name="Compare").press("Enter")
        self.tab.wait_for_url(f"**/compare?first={first}&second={second}")

    def row(self, what: str) -> list[str]:
        """Return what the table says of both, and the difference."""
        found = self.tab.locator("tbody tr").filter(has=self.tab.get_by_role("rowheader", name=what, exact=True))
        return list(found.locator("td").all_inner_texts())

    def titles(self) -> list[str]:
        """Return what the picture says that it draws."""
        return list(self.tab.locator('svg text[font-size="15"]').all_text_contents())

    def bars(self) -> list[Any]:
        """Return where the bars of the first task set stand on the screen."""
        return [self.tab.locator(f'svg rect[width="40"][fill="{colour}"]').first.bounding_box() for colour in COLOURS]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    port = held_port()
    base = f"http://127.0.0.1:{port}"
    with open_floor() as floor, chromium(tmp_path / "profile") as context:
        first = floor.bring("first")
        floor.serve(first)
        others = [floor.bring("second", quantization=ODD), floor.bring("third", wrong=True)]
        for one in others:
            floor.validate(one)
        with served(page_of(floor.site, floor.state), port):
            tab = context.new_page()
            faults = faults_of(tab)
            tab.goto(f"{base}/login")
            tab.fill("#person", ANA.id)
            tab.fill("#password", PASSWORD)
            tab.get_by_role("button", name="Log in").click()
            tab.wait_for_url(f"{base}/")
            tab.goto(f"{base}/versions")
            other, dumb = (one.model_digest for one in others)
            yield Opened(floor=floor, tab=tab, serving=first.model_digest, other=other, dumb=dumb)
            assert faults == []


def test_two_versions_are_chosen_and_held_against_each_other(opened: Opened) -> None:
    tab, ledger = opened.tab, opened.floor.site.ledger
    size, units = ledger.head().size, opened.floor.supervisor.units()
    tab.get_by_role("link", name="Compare two of them").click()
    assert tab.get_by_label("Hold against").input_value() == opened.serving

    opened.choose(opened.serving, opened.other)

    assert [opened.serving[:12], opened.other[:12]] == tab.locator("thead code").all_inner_texts()
    assert opened.row("Quantization") == ["Q4_1", ODD, ""]
    assert opened.row("facts: right answers")[2] == "+0.0 points (+0.0 to +0.0)"
    assert opened.row("16 at once: tokens/s")[:2] == ["48000.0", "48000.0"]
    assert tab.get_by_text("Nothing that both have.").is_visible()
    assert opened.titles() == [
        "Right answers in per cent, with 95 % intervals",
        "Tokens per second by callers: more is better",
        "Milliseconds to the first token: less is better",
    ]
    assert f"tiny 1 {opened.other[:12]} ({ODD})" in tab.locator("svg").text_content()
    assert (ledger.head().size, opened.floor.supervisor.units()) == (size, units), "to look starts and records nothing"


def test_what_got_worse_is_said_and_drawn_and_goes_away_the_other_way_round(opened: Opened) -> None:
    tab = opened.tab
    tab.get_by_role("link", name="Compare two of them").click()

    opened.choose(opened.serving, opened.dumb)

    (worse,) = tab.locator("li.bad").all_inner_texts()
    assert worse == "facts: 100.0 points less (-100.0 to -100.0), more than chance"
    good, bad = opened.bars()
    assert good["height"] > 50
    assert bad["height"] < 1
    assert len(opened.titles()) == 1, "its gates ended before its speed was measured"

    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert tab.locator("svg").bounding_box()["width"] > 250
    opened.choose(opened.dumb, opened.serving)
    assert tab.locator("li.bad").count() == 0
    tab.go_back()
    tab.wait_for_url(f"**second={opened.dumb}")
    assert tab.locator("li.bad").count() == 1
