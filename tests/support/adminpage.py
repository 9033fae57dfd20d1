"""The admin page over a site of tests: the real promoter and the real job desk behind their doors, and a browser."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from appliance.admin.application import create_admin_app
from appliance.admin.facts import Facts
from appliance.install.jobdesk import JobDesk
from appliance.install.jobrights import ADMIN
from appliance.promote.desk import ADMIN_DOOR
from appliance.state.database import open_state
from tests.support.doors import Door
from tests.support.promotion import PASSWORD, Site, open_site
from tests.support.signatories import Signatory, signatories
from tests.support.supervisor import FakeSupervisor


class Runner(FakeSupervisor):
    """Starts a job's unit; `tell` stands for what the unit does, and a unit that does nothing says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.tell: Callable[[], None] = lambda: None

    def start(self, unit: str) -> None:
        super().start(unit)
        self.tell()


@dataclass(slots=True)
class Page:
    """A browser of Ana's on the page of one site."""

    site: Site
    state: Engine
    browser: FlaskClient
    runner: Runner = field(default_factory=Runner)

    def token(self, path: str = "/") -> str:
        """Return the token that forms of a page carry."""
        return token(self.browser, path)

    def post(self, path: str, **form: Any) -> Any:
        """Send a form."""
        return self.browser.post(path, data={"csrf": self.token(), **form}, content_type="multipart/form-data")

    def job_after(self, answer: Any) -> str:
        """Follow the redirect to a job and return its page once it has ended."""
        assert answer.status_code == 302, answer.text
        ends = time.monotonic() + 30
        while 'http-equiv="refresh"' in (text := str(self.browser.get(answer.headers["Location"]).text)):
            assert time.monotonic() < ends, text
            time.sleep(0.02)
        return text


def page_of(site: Site, state: Engine, *, runner: FakeSupervisor | None = None) -> Flask:
    """Return the page's application over a site, as a start of its process would."""
    for place in (site.config.at.promoter, site.config.at.registry):
        place.mkdir(parents=True, exist_ok=True)
    desk = JobDesk(site.config, site.ledger, supervisor=FakeSupervisor(), runner=runner or FakeSupervisor())
    return create_admin_app(
        site.config,
        facts=Facts(state, authority_file=site.root / "ca.crt"),
        ledger=site.ledger,
        promoter=Door(site.desk, ADMIN_DOOR),
        jobs=Door(desk, ADMIN),
        clock=site.clock,
    )


def logged_in(app: Flask, person: Signatory | None = None) -> FlaskClient:
    """Return a browser in which somebody logged in; Ana where nobody is named."""
    browser = app.test_client()
    form = {"csrf": token(browser, "/login"), "person": (person or signatories()[0]).id, "password": PASSWORD}
    browser.post("/login", data=form)
    return browser


def token(browser: FlaskClient, path: str = "/") -> str:
    """Return the token that forms of a page carry."""
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get(path).text)
    assert found is not None
    return found[1]


@contextmanager
def open_page(root: Path) -> Iterator[Page]:
    """Yield Ana's browser on the page of a new site below a folder."""
    site, runner = open_site(root), Runner()
    site.config.at.registry.mkdir(parents=True, exist_ok=True)
    state = open_state(site.config.at)
    try:
        yield Page(site=site, state=state, browser=logged_in(page_of(site, state, runner=runner)), runner=runner)
    finally:
        state.dispose()
