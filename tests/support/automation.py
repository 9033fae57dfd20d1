"""A script of a site at the web service of its page, with the real promoter and job desk behind it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from appliance.promote.automation import REFUSED
from appliance.promote.automation_key import Scope
from appliance.promote.desk import ACTIONS_DOOR
from tests.support.adminpage import open_page
from tests.support.promotion import PASSWORD, Site
from tests.support.signatories import signatories

NAME: Final = "nightly"
ACTOR: Final = f"automation:{NAME}@{signatories()[0].id}"
ALL: Final = [str(one) for one in Scope]


@dataclass(slots=True)
class Service:
    """A script of the site at the page's address; Ana answers for its keys."""

    site: Site
    state: Engine
    app: Flask
    client: FlaskClient

    def key(self, *scopes: str) -> str:
        """Make a key with these scopes and return its text."""
        fields = {"name": NAME, "person": signatories()[0].id, "password": PASSWORD, "scopes": list(scopes), "days": 30}
        return str(self.site.at_door(ACTIONS_DOOR)._call("automation-make", **fields)["text"])

    def get(self, path: str, key: str = "", **more: Any) -> Any:
        """Ask with a key, or with none."""
        return self.client.get(path, headers=bearer(key), **more)

    def post(self, path: str, key: str = "", **more: Any) -> Any:
        """Send with a key, or with none."""
        return self.client.post(path, headers=bearer(key), **more)

    def refusals(self) -> list[tuple[str, str]]:
        """Return the recorded refusals, each with its rule and the deed, the oldest first."""
        leaves = self.site.ledger.find(kind=REFUSED, newest_first=False, limit=500)
        return [(str(leaf.body["rule"]), str(leaf.body["deed"])) for leaf in leaves]


def bearer(key: str) -> dict[str, str]:
    """Return the headers that a key travels in."""
    return {"Authorization": f"Bearer {key}"} if key else {}


@contextmanager
def open_service(root: Path) -> Iterator[Service]:
    """Yield a script at the page of a new site below a folder."""
    with open_page(root) as page:
        app = page.browser.application
        yield Service(page.site, page.state, app, app.test_client(use_cookies=False))
