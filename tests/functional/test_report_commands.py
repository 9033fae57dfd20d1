"""`sealift report` of a time, as a person types it, with the service and without."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer

from appliance.actions import worker
from appliance.actions.controls.mapping import packaged
from appliance.actions.reports.period import last_quarter
from appliance.cli import audit, controls, main, report
from appliance.cli import context as shared
from media.clock import SystemClock, to_text
from tests.support.ledger import LedgerSite, ledger_site

pytestmark = pytest.mark.slow  # whole commands and sheets, seconds in all
Sealift = Callable[..., tuple[int, str, str]]
NOW = to_text(SystemClock().now())
QUARTER = f"{NOW[:4]}Q{(int(NOW[5:7]) + 2) // 3}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path) as made:
        with made.running() as log:
            write_to(made)
            log.checkpoint()
        yield made


def write_to(site: LedgerSite) -> None:
    gateway = site.door("ledger-gateway")
    for number in range(3):
        asked = {"request_id": f"req_{number}", "model_digest": "a" * 64, "department": "radiology", "key_id": "k1"}
        gateway.append("request.intent", asked)
        gateway.append("request.outcome", {"request_id": f"req_{number}", "outcome": "ok"})
    gateway.append("request.refused", {"code": "rate-limited", "repeated": 7})
    gateway.close()


@pytest.fixture
def sealift(site: LedgerSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sealift:
    def run(*words: object) -> tuple[int, str, str]:
        app = typer.Typer()
        app.callback()(main._root)
        for module in (report, audit, controls):
            module.register(app)
        monkeypatch.setattr(sys, "argv", ["sealift", "--config", str(site.config_file), *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            shared.run(app)
        out, err = capsys.readouterr()
        return int(str(ended.value.code or 0)), out, err

    return run


@pytest.mark.parametrize("way_in", ["service", "file"])
def test_a_quarter_is_written_as_page_print_and_figures_and_recorded(
    site: LedgerSite, sealift: Sealift, tmp_path: Path, way_in: str
) -> None:
    way: AbstractContextManager[Any] = site.running() if way_in == "service" else nullcontext()
    files = [tmp_path / f"report{suffix}" for suffix in (".html", ".pdf", ".json")]
    with way:
        options = [word for file in files for word in ("--out", file)]
        code, out, err = sealift("report", "--quarter", QUARTER, *options, "--json")
        assert code == 0, err
        found = json.loads(out)
        recorded = json.loads(sealift("audit", "list", "--kind", "evidence.reported", "--json")[1])["leaves"]

    assert (found["answers"], found["refusals"], found["is_whole"]) == ({"radiology": 3}, {"rate-limited": 7}, True)
    assert json.loads(files[2].read_bytes())["answers"] == {"radiology": 3}
    assert {one["state"] for one in found["controls"]} <= {"green", "red", "not here"}
    assert len(found["controls"]) == len(packaged().controls)
    digests = {file.suffix[1:]: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert [leaf["body"]["files"] for leaf in recorded] == ([digests] if way_in == "service" else [])
    assert (found["record"] >= 0) == (way_in == "service")


def test_a_dry_run_counts_and_writes_and_records_nothing(site: LedgerSite, sealift: Sealift, tmp_path: Path) -> None:
    with site.running() as log:
        before = log.head().size
        words = ("--from", "2020-01-01", "--to", "2100-01-01", "--out", tmp_path / "report.pdf", "--dry-run")
        code, out, _ = sealift("report", *words)

        assert (code, log.head().size) == (0, before)
    assert "3 answers, 7 refusals; the ledger holds; NOT OVER YET" in out
    assert not (tmp_path / "report.pdf").exists()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--quarter", "2026Q5"),
        ("--quarter", "2190Q1"),
        ("--quarter", QUARTER, "--from", "2026-01-01", "--to", "2026-02-01"),
        ("--from", "2026-01-01"),
        ("--from", "2026-02-01", "--to", "2026-01-01"),
        ("--quarter", QUARTER, "--out", "report.doc"),
    ],
)
def test_what_names_no_time_or_no_file_is_refused(sealift: Sealift, words: tuple[str, ...]) -> None:
    assert sealift("report", *words)[0] == 2


def test_controls_are_listed_with_what_this_box_shows(site: LedgerSite, sealift: Sealift) -> None:
    with site.running():
        found = json.loads(sealift("controls", "--framework", "hipaa", "--json")[1])
        code, out, _ = sealift("controls")

    states = {one["id"]: one["state"] for one in found["controls"]}
    assert states["164.312(c)(1)"] == "green"  # the ledger is signed by the pinned key
    assert states["164.316(b)(1)"] == "red"  # no report was made
    assert sum(found["counts"].values()) == len(states)
    assert code == 0
    assert "reported: no report was ever made" in out
    assert sealift("controls", "--framework", "none")[0] == 2


def test_the_timers_unit_makes_what_is_due_once(
    site: LedgerSite, sealift: Sealift, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(site.config_file), "report", "due"]
    name = last_quarter(SystemClock().now()).name
    with site.running():
        assert worker.main(words) == 0
        assert f"{name}: record" in capsys.readouterr().err
        assert worker.main(words) == 0
        assert "no report is due" in capsys.readouterr().err
        recorded = json.loads(sealift("audit", "list", "--kind", "evidence.reported", "--json")[1])["leaves"]

    assert [leaf["body"]["name"] for leaf in recorded] == [name]
    kept = sorted(path.name for path in site.places.reports.iterdir() if path.suffix)
    assert kept == [f"{name}.html", f"{name}.json", f"{name}.pdf"]
    facts = json.loads((site.places.reports / f"{name}.json").read_bytes())
    assert (facts["period"]["is_over"], len(facts["controls"])) == (True, len(packaged().controls))


def test_the_timers_unit_fails_without_a_ledger_and_leaves_nothing(site: LedgerSite) -> None:
    assert worker.main(["--config", str(site.config_file), "report", "due"]) == 90
    assert not [path for path in site.places.reports.glob("*") if path.suffix]
