"""Every change of an export is noticed: each byte, each file, and what is changed by somebody who mends the lists."""

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from appliance.actions.auditing.making import Wanted, make
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from media.clock import FixedClock
from tests.support import checker
from tests.support.ledger import write_history

pytestmark = pytest.mark.fault
BEGIN = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
# A check of the record's own proof takes a signature; a byte in each group of so many is enough there.
STEPS = {
    "exported.json": 9,
    "report.pdf": 97,
    "report.html": 23,
    "README.txt": 11,
    "schema.json": 11,
    "records.csv": 11,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    ledger = MemoryLedger(FixedClock(BEGIN))
    write_history(ledger)
    ledger.checkpoint()
    ledger.append("trust.rotated", {"version": 3})
    folder = tmp_path_factory.mktemp("mutated") / "out"
    key = VerifierKey.from_text(ledger.vkey)
    make(ledger, folder, Wanted(site="demo", key=key), clock=FixedClock(BEGIN))
    return folder, ledger.vkey


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return checker.loaded()


def test_every_changed_byte_is_noticed(
    made: tuple[Path, str], module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, key = made
    assert checker.ending(module, "ledger", "--key", key, folder) == 0
    unnoticed = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for place in range(0, len(content), STEPS.get(path.name, 1)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
            if checker.ending(module, "ledger", "--key", key, folder) == 0:
                unnoticed.append((path.name, place))
        path.write_bytes(content)
        capsys.readouterr()

    assert unnoticed == []
    assert checker.ending(module, "ledger", "--key", key, folder) == 0


def test_every_cut_every_file_too_many_and_every_one_too_few_is_noticed(
    made: tuple[Path, str], module: ModuleType, tmp_path: Path
) -> None:
    folder, key = made
    for name in sorted(path.name for path in folder.iterdir()):
        for spoil in (cut, longer, gone, doubled, linked):
            copy = tmp_path / f"{name}-{spoil.__name__}"
            shutil.copytree(folder, copy)
            spoil(copy / name)
            assert checker.ending(module, "ledger", "--key", key, copy) != 0, (name, spoil.__name__)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def gone(path: Path) -> None:
    path.unlink()


def doubled(path: Path) -> None:
    shutil.copy(path, path.with_name(f"{path.name}.txt"))


def linked(path: Path) -> None:
    path.rename(path.parent.with_suffix(".elsewhere"))
    path.symlink_to(path.parent.with_suffix(".elsewhere"))


def lines(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path = folder / "leaves.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def member(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        value = json.loads((folder / name).read_bytes())
        change(value)
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        (folder / name).write_bytes(text.encode() + b"\n")

    return spoil


LEAF_CHANGES: dict[str, Callable[[Path], None]] = {
    "a record left out": lambda f: lines(f, lambda all_: all_[:3] + all_[4:]),
    "two records swapped": lambda f: lines(f, lambda all_: [*all_[:3], all_[4], all_[3], *all_[5:]]),
    "a record twice": lambda f: lines(f, lambda all_: [*all_[:4], *all_[3:]]),
    "the last record left out": lambda f: lines(f, lambda all_: all_[:-1]),
    "a record changed": lambda f: lines(f, lambda all_: [each.replace(b'"ok"', b'"OK"') for each in all_]),
    "a time changed": member("times.json", lambda value: value.update(last="2026-11-21T08:00:00Z")),
    "an erasure invented": member("redactions.json", lambda value: value["erased"].append({"sequence": 1})),
    "a checkpoint left out of the record": member("proofs.json", lambda value: value.update(after=["00" * 32])),
    "another range": member("export.json", lambda value: value.update(start=1)),
}


@pytest.mark.parametrize("name", LEAF_CHANGES)
@pytest.mark.parametrize("stripped", [False, True], ids=["recorded", "as if nobody had recorded it"])
def test_a_change_is_noticed_also_when_all_digests_are_mended(
    made: tuple[Path, str], module: ModuleType, tmp_path: Path, name: str, *, stripped: bool
) -> None:
    folder, key = made
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    LEAF_CHANGES[name](copy)
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in copy.iterdir()
        if path.name not in {"export.json", "exported.json"}
    }
    member("export.json", lambda value: value.update(files=digests, recorded=not stripped))(copy)
    if stripped:
        (copy / "exported.json").unlink()

    assert checker.ending(module, "ledger", "--key", key, copy) in ({21, 91} if stripped else {15, 91})
    if stripped:
        assert checker.ending(module, "ledger", "--key", key, "--unrecorded", copy) == 91


def test_a_spreadsheet_that_was_changed_is_noticed_with_mended_digests(
    made: tuple[Path, str], module: ModuleType, tmp_path: Path
) -> None:
    folder, key = made
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "records.csv").write_bytes((copy / "records.csv").read_bytes().replace(b"ada", b"eve"))
    digest = hashlib.sha256((copy / "records.csv").read_bytes()).hexdigest()
    member("export.json", lambda value: value["files"].update({"records.csv": digest}))(copy)

    assert checker.ending(module, "ledger", "--key", key, copy) == 15
