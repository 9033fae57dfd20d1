import csv
import io
import json
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import receipt as site_receipt
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, PlacesSection
from bundler.cli.main import main
from bundler.dispatch import (
    media_of,
    missing,
    record_erased,
    record_receipt,
    record_returned,
    record_sent,
    record_site,
    record_written,
)
from bundler.ledgernote import LedgerKey
from bundler.readback import ReadBack
from bundler.register import Register
from bundler.registertable import history, history_csv, history_text, media_csv
from bundler.volumefiles import volume_index
from bundler.write import WrittenVolume
from media import layout
from media.canonical import dumps, loads
from media.clock import FixedClock
from media.digest import file_sha256
from media.errors import BadSignatureError, MalformedError, UnreadableError, UsageError, WrongVolumeError
from tests.support.medium import SimulatedMedium, make_medium

SITE = "demo-clinic"


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    return make_medium(tmp_path_factory.mktemp("m") / "m")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, 12, tzinfo=UTC))


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register(folder=tmp_path / "register")


def written(register: Register, medium: SimulatedMedium, clock: FixedClock, number: int = 1, **more: Any) -> str:
    volume = volume_index(medium.work).volumes[number - 1]
    proof = ReadBack(files=1, bytes=1, past_cache=True)
    facts = WrittenVolume(number=number, id=volume.id, files=1, bytes=1, read_back=proof)
    return record_written(register, medium.work, facts, clock=clock, **more)


def receipt(folder: Path, medium: SimulatedMedium, ledger: MemoryLedger, **other: Any) -> bytes:
    index = volume_index(medium.work)
    facts: dict[str, Any] = {
        "release": medium.release,
        "serial": medium.serial,
        "code": medium.code,
        "payload_digest": index.payload_digest,
        "targets_sha256": "0" * 64,
        "root_version": 1,
        "timestamp_version": medium.serial * 1000,
        "signers": [],
        "volumes": [
            {
                "number": each.number,
                "id": each.id,
                "tagmanifest_sha256": file_sha256(medium.work.seal_of(each.number) / layout.TAG_MANIFEST),
            }
            for each in index.volumes
        ],
        "files": 1,
        "bytes": 1,
        "rehearsal_level": "installed",
        "custody": {"complete": True, "findings": [], "entries": []},
        **other,
    }
    config = Config(site=SITE, places=PlacesSection(root=str(folder / "box")))
    ledger.append("release.received", {**facts, "site": SITE})
    file = site_receipt.write(config, facts, ledger, outcome="received", at="2026-11-22T09:00:00Z")
    return file.read_bytes()


def test_an_empty_register_knows_no_media(register: Register) -> None:
    assert register.entries() == ()
    assert not register.folder.exists()


def test_media_are_named_by_release_volume_and_copy(
    register: Register, medium: SimulatedMedium, clock: FixedClock
) -> None:
    names = [written(register, medium, clock, number) for number in (1, 2, 2)]

    assert names == [f"{medium.release}/1/1", f"{medium.release}/2/1", f"{medium.release}/2/2"]
    assert [each.state for each in media_of(register.entries())] == ["here", "here", "here"]


def test_media_that_never_came_back_are_listed(register: Register, medium: SimulatedMedium, clock: FixedClock) -> None:
    one, two = written(register, medium, clock), written(register, medium, clock, 2)
    three = written(register, medium, clock, 2, to="Carl Courier")
    for each in (one, two):
        record_sent(register, each, to=SITE, by="alice", clock=clock)
    clock.advance(10 * 86400)
    record_returned(register, one, by="Carl Courier", condition="seals whole", destroyed=False, clock=clock)

    away = missing(register.entries(), clock=clock)

    assert [(each.medium, each.held_by) for each in away] == [(two, SITE), (three, "Carl Courier")]
    assert len(missing(register.entries(), clock=clock, days=10)) == 2
    assert missing(register.entries(), clock=clock, days=11) == ()
    assert missing(register.entries(), clock=clock, days=10**20) == ()


def test_a_medium_that_was_destroyed_is_not_missing_and_is_not_sent_again(
    register: Register, medium: SimulatedMedium, clock: FixedClock
) -> None:
    name = written(register, medium, clock, to=SITE)
    record_returned(register, name, by="", condition="", destroyed=True, clock=clock)

    assert missing(register.entries(), clock=clock) == ()
    with pytest.raises(UsageError, match="was destroyed"):
        record_sent(register, name, to=SITE, by="", clock=clock)


def test_a_medium_is_in_one_place_at_a_time(register: Register, medium: SimulatedMedium, clock: FixedClock) -> None:
    name = written(register, medium, clock)

    with pytest.raises(UsageError, match="was not away"):
        record_returned(register, name, by="", condition="", destroyed=False, clock=clock)
    record_sent(register, name, to=SITE, by="", clock=clock)
    with pytest.raises(UsageError, match="is with demo-clinic already"):
        record_sent(register, name, to="elsewhere", by="", clock=clock)
    with pytest.raises(UsageError, match="there is no medium"):
        record_sent(register, "other/1/1", to=SITE, by="", clock=clock)


def test_a_changed_line_breaks_the_register(register: Register, medium: SimulatedMedium, clock: FixedClock) -> None:
    for number in (1, 2):
        written(register, medium, clock, number)
    register.file.write_bytes(register.file.read_bytes().replace(b'"volume":1', b'"volume":2'))

    with pytest.raises(MalformedError, match="line 2 of the register"):
        register.entries()


def test_a_line_that_was_taken_out_breaks_the_register(
    register: Register, medium: SimulatedMedium, clock: FixedClock
) -> None:
    for number in (1, 2):
        written(register, medium, clock, number)
    register.file.write_bytes(register.file.read_bytes().partition(b"\n")[2])

    with pytest.raises(MalformedError, match="not what was written"):
        written(register, medium, clock)


def test_a_line_that_a_power_cut_tore_is_written_over(
    register: Register, medium: SimulatedMedium, clock: FixedClock
) -> None:
    name = written(register, medium, clock)
    with register.file.open("ab") as file:
        file.write(b'{"at":"2026-11')

    assert len(register.entries()) == 1
    record_sent(register, name, to=SITE, by="", clock=clock)

    assert [entry.kind for entry in register.entries()] == ["written", "sent"]


def test_copies_that_are_entered_at_once_have_different_names(
    register: Register, medium: SimulatedMedium, clock: FixedClock
) -> None:
    with ThreadPoolExecutor(max_workers=4) as pool:
        names = list(pool.map(lambda _: written(register, medium, clock), range(8)))

    assert sorted(names) == [f"{medium.release}/1/{copy}" for copy in range(1, 9)]
    assert len(register.entries()) == 8


def test_facts_of_another_shape_are_not_written(register: Register, clock: FixedClock) -> None:
    with pytest.raises(MalformedError):
        register.append("sent", {"medium": "x/1/1"}, clock=clock)

    assert register.file.read_bytes() == b""


def test_a_folder_that_cannot_be_used_is_an_error_of_ours(tmp_path: Path, clock: FixedClock) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UnreadableError, match="the register cannot be used"):
        Register(folder=tmp_path / "file").append("sent", {"medium": "x", "to": "y", "by": ""}, clock=clock)


def test_a_receipt_is_believed_by_the_sites_ledger_and_entered_once(
    register: Register, medium: SimulatedMedium, clock: FixedClock, tmp_path: Path
) -> None:
    ledger = MemoryLedger(site=SITE)
    written(register, medium, clock, to=SITE)
    written(register, medium, clock, 2)
    record_site(register, SITE, LedgerKey.from_text(ledger.vkey), replaces=False, clock=clock)
    came_back = receipt(tmp_path, medium, ledger)

    found, is_new = record_receipt(register, came_back, clock=clock)
    _, is_new_again = record_receipt(register, came_back, clock=clock)

    assert (found.outcome, found.vouched_by, is_new, is_new_again) == ("received", ("ledger",), True, False)
    one, two = media_of(register.entries())
    assert one.received == ("demo-clinic at 2026-11-22T09:00:00Z",)
    assert two.received == ()
    head = register.entries()[-1].facts["checkpoint"]
    assert (head["size"], head["root"]) == (ledger.head().size, ledger.head().root)


def test_a_receipt_of_a_site_without_a_registered_key_is_refused(
    register: Register, medium: SimulatedMedium, clock: FixedClock, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="ledger key of demo-clinic is not registered"):
        record_receipt(register, receipt(tmp_path, medium, MemoryLedger(site=SITE)), clock=clock)


def test_a_receipt_by_another_ledger_is_refused(
    register: Register, medium: SimulatedMedium, clock: FixedClock, tmp_path: Path
) -> None:
    record_site(register, SITE, LedgerKey.from_text(MemoryLedger(site=SITE).vkey), replaces=False, clock=clock)

    with pytest.raises(BadSignatureError, match="not signed by the site's ledger"):
        record_receipt(register, receipt(tmp_path, medium, MemoryLedger(site=SITE)), clock=clock)


@pytest.mark.parametrize("name", ["sequence", "leaf", "hashes", "checkpoint"])
def test_a_receipt_whose_proof_was_changed_is_refused(
    name: str, register: Register, medium: SimulatedMedium, clock: FixedClock, tmp_path: Path
) -> None:
    ledger = MemoryLedger(site=SITE)
    record_site(register, SITE, LedgerKey.from_text(ledger.vkey), replaces=False, clock=clock)
    other = MemoryLedger(site=SITE)
    receipt(tmp_path, medium, other, code="1" * 64)

    def spoil(payload: dict[str, Any]) -> None:
        proof = payload["ledger"]
        spoilt = {
            "sequence": 0,
            "leaf": proof["leaf"][:-8] + "AAAAAAA=",
            "hashes": [],
            "checkpoint": other.checkpoint(),
        }
        proof[name] = spoilt[name]

    with pytest.raises((BadSignatureError, MalformedError)):
        record_receipt(register, changed(receipt(tmp_path, medium, ledger), spoil), clock=clock)


def test_a_receipt_that_says_another_thing_than_its_record_is_refused(
    register: Register, medium: SimulatedMedium, clock: FixedClock, tmp_path: Path
) -> None:
    ledger = MemoryLedger(site=SITE)
    record_site(register, SITE, LedgerKey.from_text(ledger.vkey), replaces=False, clock=clock)

    def spoil(payload: dict[str, Any]) -> None:
        payload["serial"] += 1

    with pytest.raises(BadSignatureError, match="the ledger's record of it differ"):
        record_receipt(register, changed(receipt(tmp_path, medium, ledger), spoil), clock=clock)


def test_a_receipt_that_nothing_vouches_for_is_refused(
    register: Register, medium: SimulatedMedium, clock: FixedClock, tmp_path: Path
) -> None:
    ledger = MemoryLedger(site=SITE)
    record_site(register, SITE, LedgerKey.from_text(ledger.vkey), replaces=False, clock=clock)

    def spoil(payload: dict[str, Any]) -> None:
        payload["ledger"] = None

    with pytest.raises(BadSignatureError, match="nothing vouches"):
        record_receipt(register, changed(receipt(tmp_path, medium, ledger), spoil), clock=clock)


def test_a_receipt_about_media_that_nobody_wrote_here_is_refused(
    register: Register, medium: SimulatedMedium, clock: FixedClock, tmp_path: Path
) -> None:
    ledger = MemoryLedger(site=SITE)
    record_site(register, SITE, LedgerKey.from_text(ledger.vkey), replaces=False, clock=clock)
    written(register, medium, clock)

    with pytest.raises(WrongVolumeError, match="does not know"):
        record_receipt(register, receipt(tmp_path, medium, ledger), clock=clock)


def test_a_sites_key_is_replaced_only_when_somebody_says_so(register: Register, clock: FixedClock) -> None:
    old, new = (LedgerKey.from_text(MemoryLedger(site=SITE).vkey) for _ in range(2))
    record_site(register, SITE, old, replaces=False, clock=clock)
    record_site(register, SITE, old, replaces=False, clock=clock)

    with pytest.raises(UsageError, match="another ledger key"):
        record_site(register, SITE, new, replaces=False, clock=clock)
    record_site(register, SITE, new, replaces=True, clock=clock)

    assert len(register.entries()) == 2


def test_the_commands_tell_where_media_are(
    medium: SimulatedMedium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = MemoryLedger(site=SITE)
    (tmp_path / "ledger.pub").write_text(ledger.vkey + "\n")
    (tmp_path / "receipt.json").write_bytes(receipt(tmp_path, medium, ledger))
    place = ("--register", tmp_path / "r")

    def run(*arguments: object) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main(["--json", *map(str, arguments)])
        said = capsys.readouterr()
        assert ended.value.code == 0, said.err
        found: dict[str, Any] = json.loads(said.out)
        return found

    stick = [tmp_path / "1", tmp_path / "2"]
    made = run("write", medium.work.root, *stick, "--ceremony", medium.ceremony.folder, *place)
    names = [each["medium"] for each in made["volumes"]]
    again = run(
        *("remake", medium.work.root, tmp_path / "3", "--volume", 2, "--ceremony", medium.ceremony.folder, *place)
    )
    for name in (*names, again["medium"]):
        run("register", "sent", name, "--to", SITE, *place)
    run("register", "site", SITE, "--key", tmp_path / "ledger.pub", *place)
    entered = run("register", "receipt", tmp_path / "receipt.json", *place)
    run("register", "returned", names[0], *place)

    assert entered["volumes"] == [1, 2]
    assert [each["state"] for each in run("register", "list", *place)["media"]] == ["returned", "sent to", "sent to"]
    away = run("register", "missing", *place)["media"]
    assert [each["medium"] for each in away] == [names[1], f"{medium.release}/2/2"]


def test_a_medium_whose_first_hand_over_could_not_be_signed_is_in_the_register(
    medium: SimulatedMedium, tmp_path: Path, register: Register
) -> None:
    (tmp_path / "empty").mkdir(mode=0o700)
    words = ("write", medium.work.root, tmp_path / "1", tmp_path / "2", "--ceremony", medium.ceremony.folder)
    holder = ("--person", "alice", "--home", tmp_path / "empty", "--to", "Carl Courier", "--register", register.folder)

    with pytest.raises(SystemExit) as ended:
        main([*map(str, (*words, *holder))])

    assert ended.value.code
    assert (tmp_path / "1" / layout.RELEASE).is_dir()
    assert [(each.volume, each.state) for each in media_of(register.entries())] == [(1, "here")]


def changed(untrusted: bytes, spoil: Any) -> bytes:
    envelope = loads(untrusted)
    payload = loads(b64decode(envelope["payload"]))
    spoil(payload)
    envelope["payload"] = b64encode(dumps(payload)).decode()
    return dumps(envelope)


def test_media_are_overdue_from_the_day_after_they_were_due(
    register: Register, medium: SimulatedMedium, clock: FixedClock
) -> None:
    name = written(register, medium, clock)
    record_sent(register, name, to="Carl", by="Alice", clock=clock, due=datetime(2026, 11, 25, 23, 59, 59, tzinfo=UTC))
    never_due = written(register, medium, clock, number=2, to="Dora")

    assert missing(register.entries(), clock=clock, overdue=True) == ()
    clock.advance(5 * 24 * 3600)
    assert missing(register.entries(), clock=clock, overdue=True) == ()
    clock.advance(24 * 3600)
    (late,) = missing(register.entries(), clock=clock, overdue=True)
    assert (late.medium, late.due) == (name, "2026-11-25T23:59:59Z")
    assert "due back 2026-11-25" in late.to_text()
    assert len(missing(register.entries(), clock=clock)) == 2

    record_returned(register, name, by="Carl", condition="", destroyed=False, clock=clock)
    assert missing(register.entries(), clock=clock, overdue=True) == ()
    assert {each.medium: each.due for each in media_of(register.entries())} == {name: "", never_due: ""}


def test_the_history_tells_who_and_when(register: Register, medium: SimulatedMedium, clock: FixedClock) -> None:
    record_erased(register, "sdb, serial 42", held="vfat, label HOLIDAYS", by="alice", clock=clock)
    name = written(register, medium, clock, by="alice", to="Carl")
    other = written(register, medium, clock, number=2)
    clock.advance(60)
    record_returned(register, name, by="Carl", condition="burnt", destroyed=True, clock=clock)

    rows = history(register.entries(), name)

    assert [(row["kind"], row["by"], row["at"]) for row in rows] == [
        ("written", "alice", "2026-11-20T12:00:00Z"),
        ("sent", "alice", "2026-11-20T12:00:00Z"),
        ("returned", "Carl", "2026-11-20T12:01:00Z"),
    ]
    assert "destroyed: burnt, by Carl" in history_text(rows)
    everything = history_text(history(register.entries()))
    assert "it held vfat, label HOLIDAYS, by alice" in everything
    assert other in everything


def test_a_spreadsheet_runs_nothing_that_somebody_typed(
    register: Register, medium: SimulatedMedium, clock: FixedClock
) -> None:
    evil = '=HYPERLINK("http://x","y")'
    written(register, medium, clock, to=evil, by="@SUM(1)")

    for table in (media_csv(media_of(register.entries())), history_csv(history(register.entries()))):
        rows = list(csv.DictReader(io.StringIO(table)))
        assert rows
        assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for row in rows for cell in row.values())
        assert "HYPERLINK" in table
    assert media_of(register.entries())[0].held_by == evil


def test_register_commands_show_and_try_without_entering(
    register: Register, medium: SimulatedMedium, clock: FixedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    name = written(register, medium, clock)
    pinned = register.folder.parent / "ledger.pub"
    pinned.write_text(MemoryLedger(site=SITE).vkey)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["register", *arguments, "--register", str(register.folder)])
        return int(ended.value.code or 0), capsys.readouterr().out

    assert run("sent", name, "--to", "Carl", "--due", "2099-12-24", "--dry-run")[0] == 0
    assert run("sent", name, "--to", "Carl", "--due", "soon")[0] == 2
    for dry in (["--dry-run"], []):
        for typed in (["--to", ""], ["--to", "Carl\nCourier"], ["--to", "C", "--by", "\u202e"], ["--to", "C" * 501]):
            assert run("sent", name, *typed, *dry)[0] == 2
        assert run("site", "a\tb", "--key", str(pinned), *dry)[0] == 2
    assert [entry.kind for entry in register.entries()] == ["written"]
    assert run("sent", name, "--to", "Carl", "--due", "2099-12-24")[0] == 0
    assert run("sent", name, "--to", "Dora", "--dry-run")[0] == 2
    assert run("returned", name, "--dry-run")[0] == 0
    assert run("returned", name, "--condition", "a\nb", "--dry-run")[0] == 2
    assert "due back 2099-12-24T23:59:59Z" in run("missing")[1]
    assert run("missing", "--overdue")[1] == "no medium is overdue\n"
    assert run("list", "--csv")[1].startswith("medium,release,")
    assert run("history", name)[1].count("\n") == 2
    assert run("history", "nothing/1/1")[0] == 2
    assert len(register.entries()) == 2
