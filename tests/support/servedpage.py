"""A site's page, served, in a tab of a real browser: what the tests of what people do there begin with."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from appliance.state import projection
from tests.support.promotion import PASSWORD, Site


@dataclass(slots=True, kw_only=True)
class ServedPage:
    """A site, its state, and a tab that reads its page at `base`."""

    site: Site
    tab: Any
    base: str
    state: Engine

    def go(self, path: str) -> None:
        """Open a page that knows everything that was recorded."""
        projection.catch_up(self.state, self.site.ledger)
        self.tab.goto(f"{self.base}{path}")

    def log_in(self, person: str) -> None:
        """Log somebody in, and whoever was logged in out."""
        if self.tab.get_by_role("button", name="Log out").count():
            self.tab.get_by_role("button", name="Log out").click()
        self.go("/login")
        self.tab.fill("#person", person)
        self.tab.fill("#password", PASSWORD)
        self.tab.get_by_role("button", name="Log in").click()
        self.tab.wait_for_url(f"{self.base}/")
