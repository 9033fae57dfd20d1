"""The mirror of another box's ledger as evidence: what is believed of it, and what is refused."""

import hashlib
import json
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from appliance.actions.auditing import making
from appliance.actions.proven_mirror import ProvenMirror
from appliance.actions.standby import introducing, mirrored
from appliance.actions.standby.mirrored import Mirrored
from appliance.audit import exclusive, note, pin, tree
from appliance.audit.log import Log, Signer
from appliance.audit.memory import MemoryBackend
from appliance.audit.sqlite_backend import FILE_NAME, open_writer
from appliance.errors import LedgerUnavailableError, PairingRefusedError, PrivilegeError, ProofError
from appliance.keys.files import create_missing
from appliance.standby import mirror
from media.errors import UsageError
from tests.support import boxes, checker
from tests.support.boxes import first, second
from tests.support.promotion import Site, digest

pytestmark = pytest.mark.slow

__all__ = ["first", "second"]  # fixtures

VERSION = digest("version")


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return checker.loaded()


def answer(box: Site, request_id: str) -> int:
    asked = box.ledger.append("request.intent", {"request_id": request_id, "model_digest": VERSION})
    return asked.sequence


def bring(source: Site, target: Site) -> None:
    boxes.grow(target, boxes.bundle(source, "two"), "one")


def opened(box: Site, name: str = "one") -> Mirrored:
    one = mirrored.named(box.config, box.ledger, name)
    return mirrored.opened(box.config, box.ledger, one, clock=box.clock)


def proven(box: Site, name: str = "one") -> ProvenMirror:
    return ProvenMirror(opened(box, name), box.ledger, box.config.at)


def refusal(box: Site, name: str = "one") -> str:
    """Return why a mirror proves nothing."""
    with pytest.raises(ProofError, match="proves nothing") as refused:
        opened(box, name)
    return refused.value.why


def file_of(box: Site, source: Site) -> Path:
    return mirror.place_of(box.config.at, source.ledger.head().origin) / FILE_NAME


def spoil(path: Path, *statements: str) -> None:
    """Change the file as somebody does who has it; our triggers are no lock."""
    connection = sqlite3.connect(path)
    triggers = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
    for trigger in triggers:
        connection.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_mirror_is_found_by_its_box_and_by_its_ledger_and_is_what_that_box_signed(first: Site, second: Site) -> None:
    sequence = answer(first, "req_one")
    bring(first, second)

    found = opened(second)

    assert found.signed == note.Checkpoint.from_text(note.parts(found.text)[0])
    assert (found.known.box, found.signed.origin) == ("one", first.ledger.head().origin)
    assert found.key.to_text() == first.ledger.vkey
    assert found.taken is not None
    assert found.taken.body["size"] == found.signed.size == found.held
    assert opened(second, found.known.origin).signed == found.signed
    one = proven(second).one("request.intent", "request_id", "req_one")
    assert one is not None
    assert one.sequence == sequence
    assert "hashed again" in proven(second).look()
    with pytest.raises(UsageError, match="three"):
        opened(second, "three")
    with pytest.raises(LedgerUnavailableError, match="cannot be written"):
        found.ledger.append("request.intent", {})


def searched(box: Site, request_id: str) -> tuple[Mirrored | None, tuple[str, ...]]:
    kind, field = "request.intent", "request_id"
    return mirrored.holding(box.config, box.ledger, kind=kind, field=field, value=request_id, clock=box.clock)


def test_what_is_not_in_the_mirror_yet_is_told_with_how_far_it_goes(first: Site, second: Site) -> None:
    bring(first, second)
    answer(first, "req_later")

    found, reaches = searched(second, "req_later")

    assert found is None
    assert "the mirror of one" in reaches[0]
    assert "ends with record" in reaches[0]
    bring(first, second)
    found, _ = searched(second, "req_later")
    assert found is not None


def test_a_checkpoint_that_is_gone_is_missed(first: Site, second: Site) -> None:
    bring(first, second)
    signed = opened(second).signed.size
    answer(first, "req_one")
    bring(first, second)
    spoil(file_of(second, first), "DELETE FROM checkpoint WHERE size = (SELECT max(size) FROM checkpoint)")

    assert re.search(rf"signs {signed} records, and this box took \d+", refusal(second))


def test_records_after_the_last_checkpoint_are_shown_and_not_proven(first: Site, second: Site) -> None:
    bring(first, second)
    found = opened(second)
    answer(first, "req_unsigned")
    rows = first.ledger.log.backend.rows(found.held, 1000)
    backend = open_writer(file_of(second, first))
    frontier = list(tree.frontier_of(found.held, backend.node))
    nodes = [node for row in rows for node in tree.push(frontier, row.sequence, row.hash)]
    backend.append([row._replace(retry="") for row in rows], nodes)
    backend.close()

    later = proven(second)
    (leaf,) = opened(second).ledger.find(kind="request.intent", field="request_id", value="req_unsigned")

    assert (opened(second).signed.size, opened(second).held) == (found.signed.size, found.held + len(rows))
    assert "signed by nobody yet" in opened(second).reach
    with pytest.raises(ProofError, match="newer than the last checkpoint"):
        later.require(leaf)
    assert opened(second).ledger.inclusion(leaf.sequence).note == ""


Spoiler = Callable[[Path], None]


def other_bytes(path: Path) -> None:
    changed = "UPDATE leaf SET raw = CAST(replace(CAST(raw AS TEXT), 'req_one', 'req_two') AS BLOB)"
    spoil(path, changed)


def hidden(path: Path) -> None:
    spoil(path, "UPDATE leaf SET kind = 'person.renamed' WHERE kind = 'person.enrolled'")


def test_an_answer_that_the_files_index_does_not_find_is_found_by_reading_all(first: Site, second: Site) -> None:
    sequence = answer(first, "req_one")
    answer(first, "req_two")
    bring(first, second)
    spoil(file_of(second, first), "UPDATE leaf SET term = '', kind = 'request.other' WHERE kind = 'request.intent'")

    found = proven(second).one("request.intent", "request_id", "req_one")

    assert found is not None
    assert found.sequence == sequence
    assert proven(second).one("request.intent", "request_id", "req_three") is None


def other_nodes(path: Path) -> None:
    spoil(path, "UPDATE node SET hash = zeroblob(32) WHERE level = 1")


def no_file(path: Path) -> None:
    path.unlink()


def no_database(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(5000))


def cut(path: Path) -> None:
    spoil(path, "DELETE FROM leaf WHERE sequence = (SELECT max(sequence) FROM leaf)")


@pytest.mark.parametrize("spoiler", [other_bytes, hidden, other_nodes, no_file, no_database, cut])
def test_a_mirror_that_was_changed_proves_nothing(first: Site, second: Site, spoiler: Spoiler) -> None:
    answer(first, "req_one")
    bring(first, second)
    proven(second).look()

    spoiler(file_of(second, first))

    with pytest.raises(ProofError, match="proves nothing"):
        proven(second).look()


def test_an_older_copy_of_the_mirror_is_refused(first: Site, second: Site, tmp_path: Path) -> None:
    bring(first, second)
    shutil.copy(file_of(second, first), tmp_path / "old")
    answer(first, "req_one")
    bring(first, second)
    shutil.copy(tmp_path / "old", file_of(second, first))

    assert re.search(r"it holds \d+ records, and held", refusal(second))


def rewritten(first: Site, second: Site, *, log: Log) -> None:
    """Put another history in the mirror's place, whole in itself and signed."""
    path = file_of(second, first)
    path.unlink()
    backend = open_writer(path)
    rows = log.backend.rows(0, 10**6)
    frontier: list[bytes] = []
    nodes = [node for row in rows for node in tree.push(frontier, row.sequence, row.hash)]
    backend.append([row._replace(retry="") for row in rows], nodes)
    backend.save_checkpoint(len(rows), log.checkpoint())
    backend.close()


def test_a_history_of_another_key_is_refused(first: Site, second: Site, tmp_path: Path) -> None:
    bring(first, second)
    thief = boxes.open_box(tmp_path / "thief")
    for number in range(opened(second).held + 3):
        answer(thief, f"req_{number}")

    rewritten(first, second, log=thief.ledger.log)

    assert "not signed by that box" in refusal(second)


def test_a_history_that_the_boxs_own_key_signed_later_is_refused(first: Site, second: Site) -> None:
    bring(first, second)
    size = opened(second).held
    # Whoever took the box away has its key, and makes another past under the ledger's own name.
    put_back(first, 1)
    for number in range(size + 3):
        answer(first, f"req_forged_{number}")

    rewritten(first, second, log=first.ledger.log)

    assert "are not those that were taken" in refusal(second)


def put_back(box: Site, count: int) -> None:
    """Let a box go on from its first records alone, with its key, as with an old disk."""
    backend, frontier, signer = MemoryBackend(), list[bytes](), boxes.signer(box)
    rows = box.ledger.log.backend.rows(0, count)
    backend.append(rows, [node for row in rows for node in tree.push(frontier, row.sequence, row.hash)])
    box.ledger.log = Log.read(backend, clock=box.clock)
    box.ledger.log.signer = signer


def test_a_box_that_was_parted_from_is_proven_by_what_was_taken_while_it_was_paired(
    first: Site, second: Site, tmp_path: Path
) -> None:
    answer(first, "req_one")
    bring(first, second)
    origin = first.ledger.head().origin
    introducing.part(second.config, "one", by=["Ana", "Ben"], reason="it burnt", ledger=second.ledger)

    assert proven(second).one("request.intent", "request_id", "req_one") is not None
    assert opened(second).key.to_text() == first.ledger.vkey

    # Another box comes under its name: the name is that one's, the old records have their ledger's.
    again = boxes.open_box(tmp_path / "again")
    one, two = boxes.card(again, "one"), boxes.card(second, "two")
    halves = boxes.half(again, two, is_first=True), boxes.half(second, one, is_first=False)
    introducing.join(again.config, halves[0], halves[1], ledger=again.ledger)
    introducing.join(second.config, halves[1], halves[0], ledger=second.ledger)
    assert "it is not there" in refusal(second)  # nothing came from it yet
    bring(again, second)
    assert opened(second).known.origin == again.ledger.head().origin
    assert proven(second, origin).one("request.intent", "request_id", "req_one") is not None

    spoil(file_of(second, first), "UPDATE node SET hash = zeroblob(32)")
    assert refusal(second, origin)


def test_records_from_before_a_restore_are_those_of_the_ledger_that_went_on(
    first: Site, second: Site, tmp_path: Path, module: ModuleType
) -> None:
    answer(first, "req_before")
    bring(first, second)
    before = first.ledger.head().origin
    introducing.part(second.config, "one", by=["Ana", "Ben"], reason="restored", ledger=second.ledger)
    introducing.part(first.config, "two", by=["Ana", "Ben"], reason="restored", ledger=first.ledger)
    restored(first)
    boxes.pair(first, second)
    answer(first, "req_after")
    boxes.grow(second, boxes.bundle(first, "two", since=0), "one")

    assert opened(second).known.origin == first.ledger.head().origin != before
    for request_id, names in (("req_before", ("one", before)), ("req_after", ("one",))):
        for name in names:
            assert proven(second, name).one("request.intent", "request_id", request_id) is not None
            proven(second, name).look()
    assert proven(second, before).one("request.intent", "request_id", "req_after") is None
    export(second, tmp_path / "out")
    words = ("ledger", "--unrecorded", "--key", opened(second).key.to_text(), "--key", second.ledger.vkey)
    assert checker.ending(module, *words, tmp_path / "out") == 0


def restored(box: Site) -> None:
    """Let a box go on in a new epoch, under a new key file, without its card of before."""
    folder = box.config.at.key_files
    for path in folder.glob("ledger-checkpoint*"):
        path.unlink()
    create_missing(folder)
    keys = boxes.keys_of(box)
    signer = Signer(public=keys.public("ledger-checkpoint"), sign=lambda data: keys.sign("ledger-checkpoint", data))
    facts = {"by": ["Ana", "Ben"]}
    box.ledger.log = Log.begin_epoch(
        box.ledger.log.backend, clock=box.clock, site=box.config.site, signer=signer, facts=facts
    )
    (box.config.at.etc / pin.FILE_NAME).unlink()
    pin.pin(box.config.at, box.ledger.log.vkey)
    (box.config.at.boxes / "own.json").unlink()


def test_a_pairing_that_does_not_hold_leaves_what_was_taken(first: Site, second: Site) -> None:
    bring(first, second)
    (second.config.at.boxes / "one.json").write_text("{}")

    assert opened(second).known.card is None
    assert opened(second).signed.origin == first.ledger.head().origin


def test_a_box_that_was_put_back_does_not_change_what_it_gave_before(
    first: Site, second: Site, tmp_path: Path, module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    before = first.ledger.head().size
    answer(first, "req_one")
    bring(first, second)
    true = first.ledger.log
    put_back(first, before)
    for number in range(30):
        answer(first, f"req_after_{number}")
    fork = first.ledger.checkpoint()
    with pytest.raises(PairingRefusedError):
        boxes.grow(second, boxes.bundle(first, "two", since=0), "one")

    assert proven(second).one("request.intent", "request_id", "req_one") is not None
    assert proven(second).one("request.intent", "request_id", "req_after_1") is None
    export(second, tmp_path / "out")
    (tmp_path / "fork.txt").write_text(fork)
    (tmp_path / "true.txt").write_text(opened(second).text)
    assert true.head().size >= opened(second).signed.size
    words = ("ledger", "--unrecorded", "--key", first.ledger.vkey, "--key", second.ledger.vkey)
    assert checker.ending(module, *words, "--printed", tmp_path / "fork.txt", tmp_path / "out") == 91
    assert checker.ending(module, *words, "--printed", tmp_path / "true.txt", tmp_path / "out") == 0
    assert "taken         the first" in capsys.readouterr().out


def export(box: Site, folder: Path, name: str = "one", **more: object) -> making.Made:
    copy = opened(box, name)
    read = ProvenMirror(copy, box.ledger, box.config.at)
    wanted = making.Wanted(site="demo", key=copy.key, mirror=read, **more)  # type: ignore[arg-type]
    return making.make(copy.ledger, folder, wanted, clock=box.clock)


def test_an_export_of_a_mirror_is_checked_with_the_keys_of_both_boxes(
    first: Site, second: Site, tmp_path: Path, module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(first, "req_one")
    bring(first, second)
    boxes.rotate(first)
    boxes.rotate(second)
    answer(first, "req_two")
    bring(first, second)
    made = export(second, tmp_path / "out")

    recorded = second.ledger.find(kind="evidence.exported")[0]
    assert (recorded.sequence, recorded.body["ledger"]) == (made.record, first.ledger.head().origin)
    own, theirs = second.ledger.vkey, first.ledger.vkey
    folder = tmp_path / "out"
    assert checker.ending(module, "ledger", "--key", theirs, folder) == 21  # nothing in that ledger names it
    assert checker.ending(module, "ledger", "--unrecorded", "--key", own, folder) == 21  # the holder's key alone
    capsys.readouterr()
    assert checker.ending(module, "ledger", "--unrecorded", "--key", theirs, folder) == 0
    out = capsys.readouterr().out
    assert "NOT COVERED   when they were taken" in out
    assert "taken         the first" not in out
    assert checker.ending(module, "ledger", "--unrecorded", "--key", theirs, "--key", own, folder) == 0
    out = capsys.readouterr().out
    assert f"as {second.ledger.head().origin} held them" in out
    assert "NOT COVERED   when they were taken" not in out
    assert "HOLDS" in out


@pytest.mark.parametrize("change", ["size", "record", "checkpoint", "sender"])
def test_what_the_holder_says_is_checked_too(
    first: Site, second: Site, tmp_path: Path, module: ModuleType, change: str
) -> None:
    bring(first, second)
    answer(first, "req_one")
    bring(first, second)
    folder = tmp_path / "out"
    export(second, folder)
    told = json.loads((folder / "mirror.json").read_text())
    if change == "size":
        told["records"][-1]["raw"] = told["records"][-1]["raw"].replace('"size":', '"size":1')
    elif change == "record":
        told["records"][-1]["sequence"] -= 1
    elif change == "checkpoint":
        told["checkpoint"] = (folder / "checkpoint.txt").read_text()
    else:
        told["records"] = told["records"][:-1]
    write(folder, "mirror.json", told)

    words = ("ledger", "--unrecorded", "--key", first.ledger.vkey, "--key", second.ledger.vkey, folder)
    assert (checker.ending(module, *words) == 0) is (change == "sender")  # what is left out is told as not covered


def write(folder: Path, name: str, value: object) -> None:
    """Change a file of an export and what export.json says of it."""

    def written(one: object) -> bytes:
        return json.dumps(one, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"

    (folder / name).write_bytes(written(value))
    about = json.loads((folder / "export.json").read_text())
    about["files"][name] = hashlib.sha256(written(value)).hexdigest()
    (folder / "export.json").write_bytes(written(about))


def test_who_reads_waits_for_who_takes_a_bundle_and_the_other_way_round(
    first: Site, second: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(first, second)
    folder = file_of(second, first).parent
    for is_reader in (True, False):
        held = exclusive.take(folder, shared=not is_reader)
        threading.Timer(0.2, held.close).start()
        if is_reader:
            assert opened(second).held
        else:
            bring(first, second)
    monkeypatch.setattr(mirrored.Copy, "wait_seconds", 0.0)
    with exclusive.take(folder), pytest.raises(LedgerUnavailableError, match="cannot be read now"):
        opened(second)


def test_who_may_not_read_a_mirror_is_told_so(first: Site, second: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(first, second)

    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("appliance.actions.standby.mirrored.os.scandir", refuse)
    with pytest.raises(PrivilegeError, match="may not be read"):
        opened(second)
