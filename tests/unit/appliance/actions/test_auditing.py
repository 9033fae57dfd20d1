"""Exports for auditors, read back by the stand-alone checker in this process."""

import csv
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from appliance.actions.auditing import explained, making, span
from appliance.actions.auditing.records import _Cover
from appliance.actions.auditing.table import HEADS, cell, row
from appliance.audit import cosigning, note, succession, tree
from appliance.audit.leaf import Leaf, Via
from appliance.audit.log import Entry
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from appliance.audit.verify import verify
from appliance.cli.opened import read_note
from appliance.errors import LedgerDamagedError
from media.clock import FixedClock
from media.errors import UsageError
from tests.support import checker
from tests.support.ledger import write_history

BEGIN = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return checker.loaded()


@pytest.fixture
def ledger() -> MemoryLedger:
    clock = FixedClock(BEGIN)
    made = MemoryLedger(clock)
    made.log.cosigner = None
    write_history(made)
    return made


def wanted(ledger: MemoryLedger, **more: object) -> making.Wanted:
    return making.Wanted(site="demo", key=VerifierKey.from_text(ledger.vkey), **more)  # type: ignore[arg-type]


def make(ledger: MemoryLedger, folder: Path, **more: object) -> making.Made:
    # A memory ledger lets its one door write anything, so that the record of the export is possible here.
    return making.make(ledger, folder, wanted(ledger, **more), clock=FixedClock(BEGIN))


def test_the_checker_takes_a_whole_export_and_every_part_of_it(
    ledger: MemoryLedger, tmp_path: Path, module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(ledger, tmp_path / "out")

    assert checker.ending(module, "ledger", "--key", ledger.vkey, tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert (made.start, made.end) == (0, made.size)
    assert "HOLDS" in out
    assert f"recorded      as {made.record}" in out
    assert "NOT COVERED   no checkpoint from outside" in out


def test_the_checker_reads_the_checkpoints_of_many_years(
    ledger: MemoryLedger, tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(ledger, tmp_path / "out")
    taken = tmp_path.joinpath("out/checkpoints.jsonl").read_bytes().splitlines()
    years = 10 * 365 * (24 + 100)  # one an hour, and one after each record of the kinds that are signed at once
    read, least = module.read, len(taken[-1]) * years
    asked: list[tuple[int, ...]] = []

    def noted(path: Path, *most: int) -> bytes:
        if path.name == "checkpoints.jsonl":
            asked.append(most or (module.LARGEST_LIST,))
        return bytes(read(path, *most))

    monkeypatch.setattr(module, "read", noted)

    assert checker.ending(module, "ledger", "--key", ledger.vkey, tmp_path / "out") == 0
    assert len(asked) == 2
    assert all(most >= least > module.LARGEST_LIST for (most,) in asked)


def test_what_the_second_key_signed_is_compared_with_the_records_whatever_checkpoints_are_handed_over(
    ledger: MemoryLedger, tmp_path: Path, module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scenario: who broke Ed25519 wrote the past anew and left the second signature in; its checkpoint is left out."""
    log, via = ledger.log, Via(door="ledger", uid=0)
    assert log.signer is not None
    sign, second = log.signer.sign, cosigning.Cosigner(log.origin, b"a" * 32)
    about = {"algorithm": "ML-DSA-87", "vkey": second.key.to_text(), "previous": "", "signature": ""}
    log.append([Entry.of(cosigning.NAMED, about, via=via)])
    true = note.Checkpoint.from_text(note.parts(log.checkpoint())[0])

    def cosign(root: bytes) -> None:
        text = note.Checkpoint(origin=true.origin, size=true.size, root=root).to_text()
        twice = second(note.sign(text, log.vkey, sign))
        log.append([Entry.of(cosigning.COSIGNED, {"note": twice, "size": true.size}, via=via)])

    def ending(name: str) -> int:
        make(ledger, tmp_path / name)
        about = json.loads((tmp_path / name / "export.json").read_bytes())
        (tmp_path / name / "checkpoints.jsonl").write_bytes(b"")
        (tmp_path / name / "exported.json").unlink()
        about["files"]["checkpoints.jsonl"], about["recorded"] = hashlib.sha256(b"").hexdigest(), False
        (tmp_path / name / "export.json").write_bytes(module.written(about) + b"\n")
        return checker.ending(module, "ledger", "--key", ledger.vkey, "--unrecorded", tmp_path / name)

    ledger.append("trust.rotated", {"version": 1})
    cosign(true.root)
    assert ending("true") == 0
    cosign(b"\0" * 32)
    assert ending("other") == 91
    assert "over another tree" in capsys.readouterr().err


def test_a_range_by_time_lies_in_the_whole_tree(
    tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Thirty exports, and drawing a report takes longer than all else of one; others look at what is drawn.
    monkeypatch.setattr(making, "drawn", lambda form, file: file.name.encode())
    ledger = MemoryLedger(clock := FixedClock(BEGIN))
    printed = []
    for number in range(11):
        clock.advance(3600)
        ledger.append("trust.rotated", {"version": number})
        printed.append(ledger.checkpoint())

    for first in range(1, 12):
        for last in range(first, 12):
            folder = tmp_path / f"{first}-{last}"
            since = span.moment((BEGIN + timedelta(hours=first)).isoformat().replace("+00:00", "Z"))
            until = span.moment((BEGIN + timedelta(hours=last + 1)).isoformat().replace("+00:00", "Z"))
            made = make(ledger, folder, since=since, until=until, recorded=False, printed=[printed[first // 2]])
            (tmp_path / "print").write_text(printed[first // 2])
            words = ("--key", ledger.vkey, "--printed", tmp_path / "print", "--unrecorded")

            assert (made.start, made.end) == (first, last + 1)
            assert checker.ending(module, "ledger", *words, folder) == 0
        if first > 2:
            break


def test_a_print_is_read_whatever_letters_the_auditors_terminal_has(ledger: MemoryLedger, tmp_path: Path) -> None:
    (tmp_path / "print").write_text(ledger.checkpoint(), encoding="utf-8")
    make(ledger, tmp_path / "out")
    words = [checker.CHECKER, "ledger", "--key", ledger.vkey, "--printed", tmp_path / "print", tmp_path / "out"]
    command = [sys.executable, "-I", "-X", "utf8=0", *map(str, words)]

    # Of the encodings that are not UTF-8 (Latin-1, and Windows' own) this one is on every machine.
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env={"LC_ALL": "C"})

    assert (done.returncode, done.stderr) == (0, "")
    assert "from outside  1 checkpoints agree" in done.stdout


@pytest.mark.parametrize("end", ["", "\n\n", "\n \n"])
def test_a_print_is_taken_by_the_box_and_by_the_checker_however_it_was_copied(
    ledger: MemoryLedger, tmp_path: Path, module: ModuleType, end: str
) -> None:
    (tmp_path / "print").write_text(ledger.checkpoint().rstrip() + end)
    make(ledger, tmp_path / "out")

    told = checker.ending(module, "ledger", "--key", ledger.vkey, "--printed", tmp_path / "print", tmp_path / "out")

    assert verify(ledger, notes=[read_note(tmp_path / "print")]).findings == ()
    assert told == 0


def test_the_subtrees_around_a_place_complete_every_tree(module: ModuleType) -> None:
    for size in range(1, 40):
        hashes = [tree.leaf_hash(b"%d" % number) for number in range(size)]
        fronts: list[list[bytes]] = [[]]
        for number, hashed in enumerate(hashes):
            fronts.append(list(fronts[-1]))
            tree.push(fronts[-1], number, hashed)
        for begin in range(size + 1):
            cover = _Cover(begin, size)
            for hashed in hashes[begin:]:
                cover.take(hashed)
            walk = module.Walk(begin, size, fronts[begin])

            assert walk.close(begin, size, cover.hashes) == tree.root_of(fronts[size])


def test_an_export_that_nobody_recorded_must_be_accepted_as_one(
    ledger: MemoryLedger, tmp_path: Path, module: ModuleType
) -> None:
    make(ledger, tmp_path / "out", recorded=False)

    assert checker.ending(module, "ledger", "--key", ledger.vkey, tmp_path / "out") == 21
    assert checker.ending(module, "ledger", "--key", ledger.vkey, "--unrecorded", tmp_path / "out") == 0


def test_another_key_than_the_one_that_was_given_is_refused(
    ledger: MemoryLedger, tmp_path: Path, module: ModuleType
) -> None:
    make(ledger, tmp_path / "out")

    assert checker.ending(module, "ledger", "--key", MemoryLedger().vkey, tmp_path / "out") == 21


@pytest.mark.parametrize("kind", ["ledger.key", "ledger.restored"])
def test_a_made_up_ledger_that_only_names_the_genuine_key_is_refused(
    ledger: MemoryLedger, tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("appliance.audit.log._new_origin", lambda _site: ledger.log.origin)
    forged = MemoryLedger(FixedClock(BEGIN), door="ledger")
    head = forged.head()
    body = {"vkey": ledger.vkey, "previous": "", "signature": "", "algorithm": "ML-DSA-87", "epoch": 2}
    body["continues"] = {"origin": head.origin, "size": head.size, "root": head.root}
    forged.append(kind, body)
    forged.log._named = succession.Keys([forged.leaf(0)])
    forged.append("trust.rotated", {"version": 1})
    own = making.Wanted(site="demo", key=VerifierKey.from_text(forged.vkey))
    making.make(forged, tmp_path / "out", own, clock=FixedClock(BEGIN))
    assert checker.ending(module, "ledger", "--key", forged.vkey, tmp_path / "out") in {0, 91}
    name = tmp_path / "out" / "ledger.pub"
    mended = json.loads((tmp_path / "out/export.json").read_bytes())
    name.write_text(f"{ledger.vkey}\n")
    mended["files"]["ledger.pub"] = hashlib.sha256(name.read_bytes()).hexdigest()
    mended["recorded"] = False
    text = json.dumps(mended, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    (tmp_path / "out/export.json").write_text(text + "\n")
    (tmp_path / "out/exported.json").unlink()

    assert checker.ending(module, "ledger", "--key", ledger.vkey, "--unrecorded", tmp_path / "out") in {21, 91}


def test_checkpoints_carry_the_second_signature_and_a_new_key_is_vouched_for(
    tmp_path: Path, module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = MemoryLedger(clock := FixedClock(BEGIN))
    keys = Seeds(1)
    cosigning.prepare(ledger.log, keys)  # type: ignore[arg-type]
    first = cosigning.due(ledger.log, clock)
    assert first is not None
    ledger.log.append([first])
    assert cosigning.due(ledger.log, clock) is None
    clock.advance(86400)
    assert cosigning.due(ledger.log, clock) is not None
    keys.newest_version = 2
    cosigning.prepare(ledger.log, keys)  # type: ignore[arg-type]
    cosigning.prepare(ledger.log, keys)  # type: ignore[arg-type]
    make(ledger, tmp_path / "out")

    named = ledger.find("ledger.key", newest_first=False)
    assert [leaf.body["previous"] for leaf in named] == ["", named[0].body["vkey"]]
    assert checker.ending(module, "ledger", "--key", ledger.vkey, tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "second        1 checkpoints are signed by ML-DSA-87 too" in out
    assert {"Ed25519", "ML-DSA-87"} <= set(out.split("signed by     ")[1].split())


class Seeds:
    """Keys that are numbers; only what the second signature asks for."""

    def __init__(self, newest: int) -> None:
        self.newest_version = newest

    def versions(self, name: str) -> tuple[int, ...]:
        return tuple(range(1, self.newest_version + 1))

    def get(self, name: str, *, version: int | None = None) -> object:
        number = version or self.newest_version
        return type("Key", (), {"bytes": bytes([number]) * 32, "version": number})()


def test_leaves_that_are_not_those_that_were_signed_are_not_handed_over(tmp_path: Path) -> None:
    class Forged(MemoryLedger):
        lie: Leaf | None = None

        def leaves(self, start: int, limit: int, *, kinds: Collection[str] | None = None) -> list[Leaf]:
            found = super().leaves(start, limit, kinds=kinds)
            return [self.lie if self.lie and leaf.sequence == 4 else leaf for leaf in found]

    ledger = Forged()
    write_history(ledger)
    ledger.lie = ledger.leaf(5)

    with pytest.raises(LedgerDamagedError):
        make(ledger, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_never_written_over_and_a_plan_writes_nothing(ledger: MemoryLedger, tmp_path: Path) -> None:
    planned = making.plan(ledger, wanted(ledger))
    size = ledger.head().size
    (tmp_path / "there").mkdir()

    assert (planned.size, planned.record, list(tmp_path.iterdir())) == (size, -1, [tmp_path / "there"])
    with pytest.raises(UsageError):
        make(ledger, tmp_path / "there")
    with pytest.raises(UsageError):
        make(ledger, tmp_path / "none", since="2099-01-01T00:00:00Z")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "|calc", "%0A"])
def test_a_cell_is_never_a_formula(text: str) -> None:
    (found,) = next(csv.reader([cell(text)]))

    assert found.startswith("'")


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\x1b[31m", "\u202egnp.exe", "a\x00b", "\u2028", '"', "Zürich"])
def test_a_cell_is_one_line_that_shows_what_it_holds(text: str) -> None:
    shown = cell(text)

    assert shown.isprintable()
    assert len(list(csv.reader([shown]))) == 1
    if text.isprintable():
        assert next(csv.reader([shown])) == [text]


def test_the_table_has_a_line_for_each_record(ledger: MemoryLedger) -> None:
    ledger.append("custody.accepted", {"reason": "=HYPERLINK(1)\nsecond line"})
    text = HEADS + b"".join(row(leaf) for leaf in ledger.leaves(0, 1000))

    rows = list(csv.DictReader(io.StringIO(text.decode())))

    assert [int(each["sequence"]) for each in rows] == list(range(ledger.head().size))
    assert json.loads(rows[-1]["body"]) == {"reason": "=HYPERLINK(1)\nsecond line"}


def test_each_line_is_what_the_schema_beside_it_says(ledger: MemoryLedger) -> None:
    def members() -> Iterator[set[str]]:
        for leaf in ledger.leaves(0, 1000):
            yield set(json.loads(leaf.raw))

    assert all(found == set(explained.SCHEMA["required"]) for found in members())
    assert set(explained.SCHEMA["properties"]) == set(explained.SCHEMA["required"])
