"""`sealift audit` and `sealift state`, as a person types them, with the service and without."""

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer

from appliance.audit import pin
from appliance.audit.note import verify_checkpoint
from appliance.audit.sqlite_backend import FILE_NAME
from appliance.cli import audit, main, state
from appliance.cli import context as shared
from appliance.state import database
from tests.support.ledger import LedgerSite, bodies, ledger_site

Sealift = Callable[..., tuple[int, str, str]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path) as made:
        with made.running():
            ledger = made.door("ledger-actions")
            for kind in ("release.received", "model.registered", "gate.result", "key.created"):
                ledger.append(kind, bodies()[kind])
            ledger.append("custody.accepted", {"person": "ada", "reason": "torn \x1b[31mseal"})
            ledger.close()
        yield made


@pytest.fixture(params=["service", "file"])
def served(request: pytest.FixtureRequest, site: LedgerSite) -> Iterator[LedgerSite]:
    way: AbstractContextManager[object] = site.running() if request.param == "service" else nullcontext()
    with way:
        yield site


@pytest.fixture
def sealift(site: LedgerSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sealift:
    def run(*words: str) -> tuple[int, str, str]:
        app = typer.Typer()
        app.callback()(main._root)
        audit.register(app)
        state.register(app)
        monkeypatch.setattr(sys, "argv", ["sealift", "--config", str(site.config_file), *words])
        with pytest.raises(SystemExit) as ended:
            shared.run(app)
        out, err = capsys.readouterr()
        return int(str(ended.value.code or 0)), out, err

    return run


def as_json(sealift: Sealift, *words: str) -> Any:
    code, out, _ = sealift(*words, "--json")
    assert code == 0
    return json.loads(out)


def test_records_are_listed_the_newest_first(served: LedgerSite, sealift: Sealift) -> None:
    found = as_json(sealift, "audit", "list", "--limit", "500")["leaves"]

    sequences = [leaf["sequence"] for leaf in found]
    assert sequences == sorted(sequences, reverse=True)
    assert {"ledger.opened", "release.received", "custody.accepted"} <= {leaf["kind"] for leaf in found}


def test_a_kind_or_a_family_can_be_listed(served: LedgerSite, sealift: Sealift) -> None:
    exact = as_json(sealift, "audit", "list", "--kind", "gate.result")["leaves"]
    family = as_json(sealift, "audit", "list", "--kind", "ledger.", "--oldest", "--limit", "1")["leaves"]

    assert [leaf["body"]["gate"] for leaf in exact] == ["smoke"]
    assert [leaf["kind"] for leaf in family] == ["ledger.opened"]
    assert sealift("audit", "list", "--kind", "no.such")[1] == "no such record\n"


def test_nothing_that_came_from_outside_reaches_the_terminal_unescaped(served: LedgerSite, sealift: Sealift) -> None:
    sequence = as_json(sealift, "audit", "list", "--kind", "custody.accepted")["leaves"][0]["sequence"]

    for words in (("audit", "list"), ("audit", "show", str(sequence))):
        _, out, _ = sealift(*words)
        assert "\x1b" not in out
        assert "torn" in out


def test_a_record_is_shown_with_its_proof(served: LedgerSite, sealift: Sealift) -> None:
    code, out, _ = sealift("audit", "show", "1")
    facts = as_json(sealift, "audit", "show", "1")

    assert code == 0
    assert "signed by" in out
    assert facts["proof"]["sequence"] == 1
    assert json.loads(facts["raw"]) == {**json.loads(facts["raw"]), "body": facts["leaf"]["body"]}


def test_a_record_that_is_not_there_is_a_usage_error(served: LedgerSite, sealift: Sealift) -> None:
    code, out, err = sealift("audit", "show", "4711")

    assert (code, out) == (2, "")
    assert "4711" in err


@pytest.mark.parametrize("is_running", [True, False])
def test_what_no_record_can_be_called_is_not_there(site: LedgerSite, sealift: Sealift, *, is_running: bool) -> None:
    with site.running() if is_running else nullcontext():
        shown = sealift("audit", "show", "9" * 20)
        listed = sealift("audit", "list", "--request", "req_\udcff")

    assert shown[0] == 2, shown
    assert "fault of ours" not in shown[2]
    assert "release" not in shown[2]
    assert (listed[0], listed[1].strip()) == (0, "no such record")


def test_the_ledger_verifies_and_agrees_with_a_printed_checkpoint(
    served: LedgerSite, sealift: Sealift, tmp_path: Path
) -> None:
    _, printed, _ = sealift("audit", "checkpoint")
    (tmp_path / "printed.txt").write_text(printed)

    facts = as_json(sealift, "audit", "verify", "--checkpoint", str(tmp_path / "printed.txt"))

    assert (facts["ok"], facts["findings"], facts["remarks"]) == (True, [], [])
    assert facts["covered"] == facts["size"]
    told = sealift("audit", "verify")[1]
    assert told.startswith("✓ sealift/demo/")
    assert "not covered: no checkpoint from outside was given" in told


def test_a_print_later_than_what_a_restore_brought_back_covers_nothing_and_was_given() -> None:
    assert "no checkpoint from outside was given" in audit.uncovered(0, 170, is_given=False)
    assert "later than what a restore brought back" in audit.uncovered(0, 170, is_given=True)


def test_a_checkpoint_that_is_no_file_or_of_another_ledger_is_told(
    served: LedgerSite, sealift: Sealift, tmp_path: Path
) -> None:
    with ledger_site(tmp_path / "other", site="elsewhere") as other, other.running() as log:
        (tmp_path / "foreign.txt").write_text(log.checkpoint())

    code, out, _ = sealift("audit", "verify", "--checkpoint", str(tmp_path / "foreign.txt"))

    assert code == 91
    assert "✗" in out
    assert sealift("audit", "verify", "--checkpoint", str(tmp_path / "absent.txt"))[0] == 2


def test_a_file_that_was_changed_ends_with_the_code_of_damage(site: LedgerSite, sealift: Sealift) -> None:
    connection = sqlite3.connect(site.places.ledger / FILE_NAME, isolation_level=None)
    connection.execute("DROP TRIGGER leaf_update")
    connection.execute("UPDATE leaf SET raw = replace(CAST(raw AS TEXT), 'smoke', 'smoky') WHERE 0")
    connection.execute(
        "UPDATE leaf SET raw = CAST(replace(CAST(raw AS TEXT), 'smoke', 'smoky') AS BLOB) WHERE kind = 'gate.result'"
    )
    connection.close()

    code, out, _ = sealift("audit", "verify", "--json")

    assert code == 91
    assert json.loads(out)["ok"] is False


def test_a_checkpoint_is_printed_and_as_a_code_to_photograph(served: LedgerSite, sealift: Sealift) -> None:
    facts = as_json(sealift, "audit", "checkpoint")
    _, out, _ = sealift("audit", "checkpoint", "--qr")
    key = pin.read_pin(served.places)

    assert key is not None
    assert verify_checkpoint(facts["note"], [key]).size == facts["size"]
    assert out.startswith(facts["note"])
    assert "█" in out or "▄" in out


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_an_export_and_its_dry_run_refuse_what_is_there(
    served: LedgerSite, sealift: Sealift, tmp_path: Path, more: tuple[str, ...]
) -> None:
    code, _, err = sealift("audit", "export", str(tmp_path), *more)

    assert code == 2
    assert "exists already" in err


def test_the_export_is_complete_and_never_overwrites(served: LedgerSite, sealift: Sealift, tmp_path: Path) -> None:
    folder = tmp_path / "handed/over"

    facts = as_json(sealift, "audit", "export", str(folder))

    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.txt", "checkpoint.txt", "checkpoints.jsonl", "export.json"),
        *(["exported.json"] if facts["record"] >= 0 else []),
        *("leaves.jsonl", "ledger.pub", "proofs.json", "records.csv", "redactions.json"),
        *("report.html", "report.pdf", "schema.json", "times.json"),
    ]
    assert len((folder / "leaves.jsonl").read_text().splitlines()) == facts["size"]
    assert sealift("audit", "export", str(folder))[0] == 2


def test_an_export_that_cannot_be_written_is_told(served: LedgerSite, sealift: Sealift, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert sealift("audit", "export", str(tmp_path / "file/folder"))[0] == 34


def test_the_state_is_made_again_from_the_ledger(served: LedgerSite, sealift: Sealift) -> None:
    facts = as_json(sealift, "state", "rebuild")

    assert facts["damaged_file"] is None
    connection = sqlite3.connect(served.places.registry / "state.db")
    assert connection.execute("SELECT serial FROM release").fetchall() == [(7,)]
    assert connection.execute("SELECT sequence FROM applied").fetchall() == [(facts["sequence"],)]
    connection.close()


def test_a_damaged_state_is_put_aside_and_made_again(site: LedgerSite, sealift: Sealift) -> None:
    site.places.registry.mkdir(parents=True)
    (site.places.registry / "state.db").write_bytes(b"rubbish" * 1000)
    (site.places.registry / "state.db-journal").write_bytes(b"")

    code, out, _ = sealift("state", "rebuild")

    assert code == 0
    assert "state.db.damaged" in out
    assert sorted(path.name for path in site.places.registry.glob("state.db*")) == [
        "state.db",
        "state.db.damaged",
        "state.db.damaged-journal",
    ]


def test_what_was_decided_since_and_not_carried_out_is_said_by_who_makes_the_state_anew(
    site: LedgerSite, sealift: Sealift
) -> None:
    assert "held back" not in sealift("state", "rebuild")[1]
    with site.running():
        ledger = site.door("ledger-promoter")
        made = ledger.append("promotion.made", bodies()["promotion.made"]).sequence
        ledger.close()

    _, out, _ = sealift("state", "rebuild")

    assert f"decided at record {made} is held back" in out
    assert as_json(sealift, "state", "rebuild")["told"] == made - 1


@pytest.mark.parametrize("spoiled", ["rows", "an index"])
def test_a_state_with_a_page_that_is_damaged_is_put_aside_and_made_again(
    site: LedgerSite, sealift: Sealift, spoiled: str
) -> None:
    assert sealift("state", "rebuild")[0] == 0
    file = site.places.registry / "state.db"
    connection = sqlite3.connect(file)
    name = "gate_result" if spoiled == "rows" else "ix_gate_result_model_digest_gate"
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    ((size,),) = connection.execute("PRAGMA page_size")
    connection.close()
    with file.open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(b"\xff" * size)

    code, out, _ = sealift("state", "rebuild")

    assert (code, "state.db.damaged" in out) == (0, True)
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("SELECT gate FROM gate_result").fetchall() == [(bodies()["gate.result"]["gate"],)]
    connection.close()


def test_a_state_that_another_command_writes_is_told_and_no_fault_of_ours(
    site: LedgerSite, sealift: Sealift, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sealift("state", "rebuild")[0] == 0
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    other = sqlite3.connect(site.places.registry / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    code, _, err = sealift("state", "rebuild")

    other.close()
    assert (code, "database is locked" in err, "wait for that one" in err) == (34, True, True)


def test_without_a_ledger_no_state_is_thrown_away(tmp_path: Path, site: LedgerSite, sealift: Sealift) -> None:
    (site.places.ledger / FILE_NAME).rename(tmp_path / "elsewhere.db")

    assert sealift("state", "rebuild")[0] == 90
    assert not (site.places.registry / "state.db").exists()


def test_who_reads_is_recorded_without_what_they_typed(site: LedgerSite, sealift: Sealift) -> None:
    with site.running():
        sealift("audit", "list", "--kind", "custody.accepted")
        sealift("audit", "list", "--kind", "no such \x1b[31m kind", "--request", "made-up")
        sealift("audit", "show", "1")
        found = as_json(sealift, "audit", "list", "--kind", "evidence.read", "--oldest")["leaves"]

    told = [(leaf["body"]["how"], leaf["body"]["records"], leaf["body"]["first"]) for leaf in found]
    assert [one[:2] for one in told] == [("list", 1), ("list", 0), ("show", 1)]
    assert told[2][2] == 1
    assert "made-up" not in json.dumps(found)
    assert {leaf["via"]["door"] for leaf in found} == {"ledger-actions"}


def test_reading_with_no_service_records_nothing_and_still_reads(site: LedgerSite, sealift: Sealift) -> None:
    sealift("audit", "show", "1")
    found = as_json(sealift, "audit", "list", "--kind", "evidence.read")["leaves"]
    assert found == []
