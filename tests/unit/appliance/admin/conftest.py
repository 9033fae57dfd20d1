"""Ana's browser on the page of a site of its own, and a script at its web service, for the tests of the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.adminpage import Page, open_page
from tests.support.automation import Service, open_service


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with open_page(tmp_path) as opened:
        yield opened


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with open_service(tmp_path) as opened:
        yield opened
