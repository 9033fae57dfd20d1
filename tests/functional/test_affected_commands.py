"""`sealift affected` as a person types it, with the service and without."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer

from appliance.audit import pin
from appliance.cli import affected, audit, main, retention
from appliance.cli import context as shared
from appliance.errors import LedgerDamagedError
from tests.support import checker
from tests.support.ledger import DIGEST_A, LedgerSite, bodies, intent, ledger_site

pytestmark = pytest.mark.slow  # whole commands, seconds in all
Sealift = Callable[..., tuple[int, str, str]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path) as made:
        with made.running():
            ledger = made.door("ledger-actions")
            received = bodies()["release.received"]
            signers = [{"person": "ana", "name": "Ana", "fingerprint": "F" * 40}]
            ledger.append("release.received", {**received, "signers": signers})
            ledger.append("model.registered", bodies()["model.registered"])
            ledger.close()
            gateway = made.door("ledger-gateway")
            for number in range(3):
                asked = intent(f"req_{number}", department="=cmd|' /C calc'!A0", key_id="k1")
                gateway.append("request.intent", asked)
                gateway.append("request.outcome", {"request_id": f"req_{number}", "outcome": "ok"})
            gateway.checkpoint()
            gateway.append("request.intent", intent("req_last", model_digest="e" * 64))
            gateway.close()
        yield made


@pytest.fixture
def sealift(site: LedgerSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sealift:
    def run(*words: object) -> tuple[int, str, str]:
        app = typer.Typer()
        app.callback()(main._root)
        for module in (affected, audit, retention):
            module.register(app)
        monkeypatch.setattr(sys, "argv", ["sealift", "--config", str(site.config_file), *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            shared.run(app)
        out, err = capsys.readouterr()
        return int(str(ended.value.code or 0)), out, err

    return run


@pytest.mark.parametrize("way_in", ["service", "file"])
def test_a_list_is_written_signed_and_as_a_table(
    site: LedgerSite, sealift: Sealift, tmp_path: Path, way_in: str
) -> None:
    runs = way_in == "service"
    way: AbstractContextManager[Any] = site.running() if runs else nullcontext()
    files = ("--out", tmp_path / "list.json", "--out", tmp_path / "list.csv")
    with way:
        code, out, err = sealift("affected", "--signer", "ana", "--since", "2020-01-01", *files, "--json")
    assert code == 0, err
    found = json.loads(out)

    assert found["beyond"] == (0 if runs else 1)
    assert (found["answers"], found["files"], found["record"] >= 0) == (3, ["list.json", "list.csv"], runs)
    key = pin.read_pin(site.places)
    assert key is not None
    unrecorded = [] if runs else ["--unrecorded"]
    assert checker.check("list", *unrecorded, "--key", key.to_text(), tmp_path / "list.json").returncode == 0
    with (tmp_path / "list.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["request_id"] for row in rows] == ["req_0", "req_1", "req_2"]
    assert all(row["department"].startswith("'=") for row in rows)


def test_a_list_is_held_against_an_export_of_all_records(site: LedgerSite, sealift: Sealift, tmp_path: Path) -> None:
    file, export = tmp_path / "list.json", tmp_path / "export"
    with site.running():
        assert sealift("affected", "--signer", "ana", "--out", file)[0] == 0
        assert sealift("audit", "export", export)[0] == 0
    key = pin.read_pin(site.places)
    assert key is not None

    code, out, err = sealift("audit", "compare", file, export, "--key", key.to_text(), "--json")
    assert (code, json.loads(out)["whole"]) == (0, True), err
    content = json.loads(file.read_text())
    left_out = content["list"]["answers"].pop(1)
    file.write_text(json.dumps(content))
    code, out, _ = sealift("audit", "compare", file, export)

    assert code == LedgerDamagedError.exit_code
    assert f"MISSING  record {left_out['sequence']}  req_1" in out


def test_a_version_is_named_by_name_and_the_newest_requests_are_listed(site: LedgerSite, sealift: Sealift) -> None:
    for which in ("smol", "smol:1", DIGEST_A[:12], DIGEST_A):
        found = json.loads(sealift("affected", "--version", which, "--limit", 2, "--json")[1])
        assert (found["value"], found["answers"], len(found["requests"])) == (DIGEST_A, 3, 2)


def test_a_dry_run_writes_and_records_nothing(site: LedgerSite, sealift: Sealift, tmp_path: Path) -> None:
    with site.running() as log:
        before = log.head().size
        words = ("--out", tmp_path / "list.json", "--hold", "--as", "ada", "--reason", "case", "--dry-run")
        code, out, _ = sealift("affected", "--release", "7", *words)

        assert (code, log.head().size) == (0, before)
    assert out.startswith("release 7: 3 answers began")
    assert not (tmp_path / "list.json").exists()


def test_a_time_that_ends_before_it_begins_is_no_time_without_answers(site: LedgerSite, sealift: Sealift) -> None:
    with site.running():
        code, out, err = sealift("affected", "--release", "7", "--since", "2027-01-01", "--until", "2026-01-01")

    assert (code, out) == (2, "")
    assert "swap --since and --until" in err


def test_a_print_that_nothing_is_held_against_is_refused(site: LedgerSite, sealift: Sealift, tmp_path: Path) -> None:
    with site.running():
        for more in ((), ("--out", tmp_path / "list.csv")):
            code, _, err = sealift("affected", "--release", "7", "--printed", tmp_path / "print.txt", *more)

            assert code == 2
            assert "--printed goes with --out" in err
    assert not (tmp_path / "list.csv").exists()


def test_a_hold_covers_what_was_asked_for(site: LedgerSite, sealift: Sealift) -> None:
    with site.running():
        held = json.loads(sealift("affected", "--release", "7", "--hold", "--as", "ada", "--reason", "x", "--json")[1])
        holds = json.loads(sealift("retention", "status", "--json")[1])["holds"]

    assert [(hold["hold"], hold["about"]) for hold in holds] == [(held["hold"], "release 7")]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--signer", "ana", "--approver", "ben"),
        ("--signer", "nobody"),
        ("--signer", "ana", "--since", "yesterday"),
        ("--signer", "ana", "--out", "list.pdf"),
        ("--signer", "ana", "--hold"),
        ("--signer", "\x1b[31m"),
    ],
)
def test_what_cannot_be_meant_is_refused(sealift: Sealift, words: tuple[str, ...]) -> None:
    code, _, err = sealift("affected", *words)

    assert code in {2, 10}
    assert "\x1b" not in err


def test_what_was_asked_with_one_key_is_listed(site: LedgerSite, sealift: Sealift) -> None:
    with site.running():
        found = json.loads(sealift("audit", "list", "--key", "k1", "--json")[1])["leaves"]

        assert [leaf["body"]["request_id"] for leaf in found] == ["req_2", "req_1", "req_0"]
        assert sealift("audit", "list", "--key", "nobodys")[1] == "no such record\n"
        code, _, err = sealift("audit", "list", "--key", "k1", "--request", "req_0")
        assert (code, "--request or --key" in err) == (2, True)
