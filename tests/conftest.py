"""What every test shares: Hypothesis profiles and the sender's people with real OpenPGP keys.

HYPOTHESIS_PROFILE chooses dev (100 examples, the default also where CI=true, only derandomized there), ci (1,000,
derandomized) or nightly (50,000).
"""

import functools
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from hypothesis import HealthCheck, settings

from tests.support.compiled import compile_all
from tests.support.gpg import GnuPG, gnupg_home
from tests.support.postgres_fixtures import _shared, alone_on_server, new_database, on_server, postgres, prepared
from tests.support.receiving import Shelf
from tests.support.sender import Sender, make_sender

# Fixtures that live beside their helpers.
__all__ = ["_shared", "alone_on_server", "new_database", "on_server", "postgres", "prepared"]

_SLOW_MACHINE = (HealthCheck.too_slow, HealthCheck.data_too_large)

# A program is asked for one command; tests ask for hundreds, and the whole tree of commands anew for each of them takes
# a fifth of a second.
_asking: Any = typer.testing
_asking._get_command = functools.cache(_asking._get_command)

settings.register_profile(
    "dev",
    max_examples=100,
    deadline=None,
    derandomize=os.environ.get("CI", "") == "true",
    suppress_health_check=_SLOW_MACHINE,
)
settings.register_profile("ci", max_examples=1000, deadline=None, derandomize=True, suppress_health_check=_SLOW_MACHINE)
settings.register_profile("nightly", max_examples=50_000, deadline=None, suppress_health_check=_SLOW_MACHINE)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


class _Told:
    """Says at once what failed and why: a shard that is out of time is ended before pytest's own summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the test's name and the last lines of what it said."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and reporter is not None:
            reporter.write_line(f"\nFAILED {report.nodeid} ({report.when})")
            reporter.write_line(report.longreprtext[-3000:])


def pytest_configure(config: pytest.Config) -> None:
    """Say at once what fails where a shard runs (tests/running.py)."""
    if "SEALIFT_SHARD" in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Told(config), "told")


@pytest.hookimpl(trylast=True)  # Hypothesis keeps nothing before its own
def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile once, before the workers start, what each of them would compile."""
    if session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput"):
        compile_all(session.config)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what was collected out of each later search for garbage: millions of objects that stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    """Start every test with the usual umask: commands tried in this process set theirs."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def gnupg() -> Iterator[GnuPG]:
    """An empty GnuPG home for this run, ended with its agent."""
    with gnupg_home() as home:
        yield home


@pytest.fixture(scope="session")
def sender() -> Iterator[Sender]:
    """Three people of a sender with real keys, and the root that names them."""
    with gnupg_home() as home:
        yield make_sender(home)


@pytest.fixture
def genuine(tmp_path: Path) -> Shelf:
    """Genuine media on demand, in this test's folder."""
    return Shelf(tmp_path)
