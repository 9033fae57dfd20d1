"""`sealift canary` as a person types it where production has several lines, and what it says where there is one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from appliance.cli import canary
from appliance.cli.context import Context
from appliance.promote.client import PromoterClient
from tests.support import lines
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

A, B, C, D = (digest(name) for name in ("A", "B", "C", "D"))
ANA, BEN, *_ = signatories()
Typed = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = open_site(tmp_path)
    site.promote(A)
    return site


@pytest.fixture
def typed(site: Site, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type a command of `sealift canary` against the site's promoter; return what it says."""

    @contextmanager
    def promoter(_own: Context) -> Iterator[PromoterClient]:
        yield site.client

    monkeypatch.setattr(canary, "promoter_of", promoter)
    monkeypatch.setattr(canary, "records_of", nullcontext)
    monkeypatch.setattr(canary, "_secret", lambda *_: None)

    def say(*words: str) -> str:
        app = typer.Typer()

        @app.callback()
        def root(context: typer.Context) -> None:
            context.obj = Context(config_path=site.root / "sealift.toml", as_json=False)

        canary.register(app)
        return CliRunner().invoke(app, ["canary", *words], catch_exceptions=False).stdout

    return say


def test_with_one_line_no_line_is_named(site: Site, typed: Typed) -> None:
    assert typed("status") == "no canary runs\n"
    site.promote(B)
    assert typed("status").startswith("no canary runs\nthe watch holds ")
    request = site.approve(site.request(A), ANA, BEN)
    site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)

    shown = typed("status")

    assert shown.startswith(f"{A[:12]} answers for 20 % of the callers beside {B[:12]}; 48.0 of 48 h are left\n")
    assert "line" not in shown


def test_a_canary_names_its_line_and_each_line_s_watch_is_shown(site: Site, typed: Typed) -> None:
    number = lines.open_line(site, C)
    site.promote(B)
    lines.start_canary(site, D, number)
    shown = typed("status")
    assert shown.startswith(f"{D[:12]} answers for 20 % of the callers of line {number} beside {C[:12]}; ")
    assert f"the watch holds {B[:12]} against {A[:12]} before it" in shown

    lines.cut_over(site, number)

    shown = typed("status")
    assert f"\nline {number}; {C[:12]} stays loaded until " in shown
    assert shown.count("the watch holds ") == 2


def test_a_version_is_kept_in_the_line_that_is_named(site: Site, typed: Typed) -> None:
    number = lines.open_line(site, C)
    site.promote(B)
    lines.start_canary(site, D, number)
    lines.cut_over(site, number)
    site.validate(D, name="classes", run="2", passed=False)
    site.validate(B, run="2", passed=False)

    said = typed("keep", "--as", BEN.id, "--reason", "the gate was wrong", "--line", "classes")

    assert said.startswith("it stays; ")
    assert typed("status").count(f"{BEN.id} keeps it all the same") == 1
