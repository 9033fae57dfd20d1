"""A gateway may open as many files as its callers are worth, where the system lets it."""

import resource
from collections.abc import Iterator

import pytest

from appliance.gateway.openfiles import allow_files

BEFORE = resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.fixture(autouse=True)
def few() -> Iterator[None]:
    """Let this process have few files, as systems do, for one test."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, BEFORE[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, BEFORE)


def _soft() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_it_has_as_many_as_it_needs() -> None:
    allow_files(500)

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (500, BEFORE[1])


def test_it_has_as_many_as_the_system_lets_it_where_that_is_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (400, 450))
    said: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: said.append(both))

    allow_files(500)

    assert said == [(450, 450)]


def test_it_keeps_what_is_enough_already() -> None:
    allow_files(300)

    assert _soft() == 400


@pytest.mark.parametrize("call", ["getrlimit", "setrlimit"])
def test_it_serves_as_it_is_where_the_system_refuses(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as refusing:
        refusing.setattr(resource, call, refuse)
        allow_files(500)

    assert _soft() == 400
