"""Every change of an export is noticed: each byte, each file, and what is changed by somebody who mends the lists.

Of a ledger whose key was renewed as well: by the independent checker, and by the product where it makes a ledger again
of an export's records.
"""

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
from appliance.audit import succession
from appliance.audit.client import OfflineLedger
from appliance.audit.copying import LedgerCopy
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from appliance.audit.succession import ROTATED
from media.clock import FixedClock
from media.errors import SealiftError
from tests.support import checker
from tests.support.ledger import write_history
from tests.support.rotation import Rotated

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


def unrotated() -> MemoryLedger:
    ledger = MemoryLedger(FixedClock(BEGIN))
    write_history(ledger)
    ledger.checkpoint()
    ledger.append("trust.rotated", {"version": 3})
    return ledger


def rotated() -> MemoryLedger:
    history = Rotated()
    write_history(history.ledger)
    history.sign()
    for _ in range(2):
        history.rotate()
        history.grow()
        history.sign()
    return history.ledger


@pytest.fixture(scope="module", params=[unrotated, rotated], ids=["one key", "renewed twice"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    ledger = request.param()
    folder = tmp_path_factory.mktemp("mutated") / "out"
    key = VerifierKey.from_text(ledger.vkey)
    make(ledger, folder, Wanted(site="demo", key=key), clock=FixedClock(BEGIN))
    return folder, ledger.vkey


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return checker.loaded()


@pytest.mark.timeout(600)
def test_every_changed_byte_is_noticed(
    made: tuple[Path, str], module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, key = made
    is_renewed = ROTATED.encode() in (folder / "leaves.jsonl").read_bytes()
    assert checker.ending(module, "ledger", "--key", key, folder) == 0
    unnoticed = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for place in places(path.name, content, is_renewed=is_renewed):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
            if checker.ending(module, "ledger", "--key", key, folder) == 0:
                unnoticed.append((path.name, place))
        path.write_bytes(content)
        capsys.readouterr()

    assert unnoticed == []
    assert checker.ending(module, "ledger", "--key", key, folder) == 0


def places(name: str, content: bytes, *, is_renewed: bool) -> list[int]:
    """Return which bytes to change: all, of large files one in each group; and of renewals more of them."""
    step = STEPS.get(name, 1)
    if not is_renewed:
        return [*range(0, len(content), step)]
    if ROTATED.encode() not in content:
        return [*range(0, len(content), max(step, 29))]
    found, begin = list[int](), 0
    for line in content.splitlines(keepends=True):
        found += range(begin, begin + len(line), min(step, 3) if ROTATED.encode() in line else max(step, 41))
        begin += len(line)
    return found


def believed(content: bytes, checkpoint: str, key: str, folder: Path) -> bool:
    """Tell whether the product takes the records of an export as what the key, or one that it leads to, signed."""
    try:
        with LedgerCopy(folder) as copy:
            if not content.endswith(b"\n"):
                return False
            copy.add(content[:-1].split(b"\n"))
            copy.conclude(checkpoint)
        ledger = OfflineLedger.of_folder(folder, clock=FixedClock(BEGIN))
        succession.verified(ledger, checkpoint, VerifierKey.from_text(key))
    except SealiftError:
        return False
    finally:
        shutil.rmtree(folder)
    return True


def test_every_changed_byte_of_a_renewal_is_noticed_by_the_product(made: tuple[Path, str], tmp_path: Path) -> None:
    folder, key = made
    content, checkpoint = (folder / "leaves.jsonl").read_bytes(), (folder / "checkpoint.txt").read_text()
    assert believed(content, checkpoint, key, tmp_path / "copy")
    begin, unnoticed, tried = 0, [], 0
    for line in content.splitlines(keepends=True):
        for place in range(begin, begin + len(line), 9 if ROTATED.encode() in line else 97):
            changed = content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
            tried += 1
            if believed(changed, checkpoint, key, tmp_path / "copy"):
                unnoticed.append(place)
        begin += len(line)
    for at in range(0, len(checkpoint), 5):
        changed_note = checkpoint[:at] + ("A" if checkpoint[at] != "A" else "B") + checkpoint[at + 1 :]
        if believed(content, changed_note, key, tmp_path / "copy"):
            unnoticed.append(-at)

    # A second line of signatures is of the other key and says nothing here: the checker reads it.
    lines = [number for number, character in enumerate(checkpoint) if character == "\n"]
    assert [place for place in unnoticed if place >= 0 or -place < lines[4]] == []
    assert tried > len(content) // 97


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
