"""What the collector gets, and that the cursor neither loses nor doubles a record."""

import errno
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from appliance import config as configuration
from appliance.actions.forwarding import Standing
from appliance.audit.leaf import Leaf, Via
from appliance.audit.log import Log, Signer
from appliance.audit.memory import MemoryBackend, MemoryLedger
from appliance.errors import CollectorError, ConfigError
from appliance.observe import sentepochs, siem, siemformats
from appliance.observe.siem import BATCH, Cursor, Forwarder
from appliance.observe.siemformats import FORMATS
from appliance.watchdog.loops import Pulse
from media.clock import FixedClock

CLOCK = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
SECRETS = {"prompt": "chest pain", "reason": "typed by ada", "approvals": [{"signature": "c2ln"}], "name": "Ada"}


def leaf(**body: object) -> Leaf:
    ledger = MemoryLedger(CLOCK)
    sequence = ledger.append("request.outcome", body).sequence
    return ledger.leaf(sequence)


def frames(data: bytes) -> list[bytes]:
    """Read messages as RFC 5425 frames them."""
    found = []
    while data:
        length, _, rest = data.partition(b" ")
        found.append(rest[: int(length)])
        data = rest[int(length) :]
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_but_the_listed_fields_leaves(name: str) -> None:
    told = FORMATS[name](leaf(request_id="req_1", outcome="ok", phi={"NAME": 2, "DATE": 1}, **SECRETS), "box")

    assert b"req_1" in told
    assert not any(word.encode() in told for word in ("chest", "typed by", "c2ln", "Ada"))


def test_a_message_has_the_parts_of_the_standard() -> None:
    one = leaf(request_id="req_1", outcome="error", phi={"NAME": 2, "DATE": 1}, passed=True)
    (message,) = frames(siemformats.rfc5424(one, "llm.hospital.internal"))

    head, _, data = message.decode().partition(" [")
    assert head == f"<108>1 {one.time} llm.hospital.internal sealift - request.outcome"
    assert data.startswith(f'sealift@32473 sequence="1" leaf="{one.hash}" kind="request.outcome"')
    assert b'outcome="error"' in message
    assert b'phi="3"' in message
    assert message.endswith(b"] request.outcome 1")


def test_common_event_format_and_json_say_the_same() -> None:
    one = leaf(request_id="req_1", outcome="ok", department="a=b|c\\")
    (message,) = frames(siemformats.cef(one, "box"))
    value = json.loads(siemformats.json_line(one, "box"))

    assert b" - CEF:0|Sealift|sealift|1|request.outcome|request.outcome|3|externalId=1 fileHash=" in message
    assert rb"department=a\=b|c\\" in message
    assert value["fields"] == {"department": "a=b|c\\", "outcome": "ok", "request_id": "req_1"}
    assert (value["sequence"], value["leaf"], value["kind"]) == (1, one.hash, "request.outcome")


@given(st.text(max_size=300), st.sampled_from(sorted(FORMATS)))
def test_no_text_breaks_out_of_its_message(text: str, name: str) -> None:
    one = Leaf(
        origin="o", sequence=4, time="2026-11-20T08:00:00Z", kind="request.outcome", via=Via(door="d", uid=0),
        body={"outcome": text, "request_id": "req_1"}, raw=b"", hash="f" * 64,
    )  # fmt: skip
    told = FORMATS[name](one, text)

    messages = told.splitlines() if name == "json" else frames(told)
    assert len(messages) == 1
    assert not re.search(rb"[\x00-\x1f\x7f]", messages[0])
    if name == "rfc5424":
        data = messages[0].partition(b"[sealift@32473 ")[2]
        values = re.findall(rb'[a-z_0-9]+="((?:[^"\\\]]|\\.)*)"', data)
        assert data.endswith(b"] request.outcome 4")
        assert len(values) == 6


@pytest.mark.parametrize(
    "kind",
    [
        *("request.refused", "release.refused", "medium.refused", "job.refused", "automation.refused"),
        *("admin.login-refused", "person.code-refused", "custody.rejected", "model.damaged", "backup.drill-failed"),
        *("tls.rotation-failed", "promotion.canary-aborted", "promotion.stopped", "install.returned"),
        *("emergency.begun", "trust.replaced", "trust.doubted", "retire.node-begun", "ledger.restored"),
    ],
)
def test_refusals_failures_and_changes_of_trust_are_warnings(kind: str) -> None:
    one = replace(leaf(), kind=kind)

    assert siemformats.severity(one) == 4
    assert siemformats.rfc5424(one, "box").partition(b" ")[2].startswith(b"<108>1 ")


def test_what_went_well_is_no_warning_and_a_job_that_failed_is_one() -> None:
    assert [siemformats.severity(replace(leaf(), kind=kind)) for kind in ("promotion.made", "emergency.ended")] == [
        6,
        6,
    ]
    assert [siemformats.severity(replace(leaf(ok=ok), kind="job.done")) for ok in (True, False)] == [6, 4]


@pytest.mark.parametrize("name", FORMATS)
def test_a_name_that_was_typed_stays_and_the_id_of_a_person_leaves(name: str) -> None:
    assert b"ann-old" in FORMATS[name](leaf(person="ann-old"), "box")
    assert b"automation:nightly@ann-old" in FORMATS[name](leaf(person="automation:nightly@ann-old"), "box")
    assert b"Ann" not in FORMATS[name](leaf(person="Dr. Ann Old, for Mr. Smith"), "box")


class Collector:
    """Takes batches; breaks on demand, before or after it has read one."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.broken = False

    def __call__(self, batch: bytes) -> None:
        if self.broken:
            raise CollectorError(what="away", why="", fix="")
        self.taken += [json.loads(line)["sequence"] for line in batch.splitlines()]


def forwarder(ledger: MemoryLedger, folder: Path, collector: Collector) -> Forwarder:
    return Forwarder(ledger, folder, encode=FORMATS["json"], host="box", send=collector)


def test_while_the_collector_is_away_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    ledger, collector = MemoryLedger(CLOCK), Collector()
    for number in range(BATCH + 20):
        ledger.append("trust.rotated", {"version": number})
    one = forwarder(ledger, tmp_path, collector)
    assert one.turn() == BATCH
    collector.broken = True
    with pytest.raises(CollectorError):
        one.turn()
    collector.broken = False

    again = forwarder(ledger, tmp_path, collector)
    assert (again.behind(), again.turn(), again.turn()) == (21, 21, 0)

    assert collector.taken == list(range(BATCH + 21))


def test_a_cursor_that_could_not_be_kept_does_not_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, collector = MemoryLedger(CLOCK), Collector()
    one = forwarder(ledger, tmp_path, collector)
    monkeypatch.setattr(Cursor, "write", lambda _self, _folder: (_ for _ in ()).throw(OSError("full")))

    with pytest.raises(OSError, match="full"):
        one.turn()

    assert one.cursor == Cursor()
    with pytest.raises(OSError, match="full"):
        one.turn()
    monkeypatch.undo()
    assert (one.turn(), one.turn()) == (1, 0)
    assert collector.taken == [0, 0]  # again, and not with each try


def test_a_full_disk_does_not_end_the_forwarder_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, collector, ending = MemoryLedger(CLOCK), Collector(), Event()
    chosen = {"server": "c", "address": "10.0.0.9", "format": "json"}
    places = {"root": str(tmp_path), "run": str(tmp_path / "run")}
    config = configuration.Config.model_validate({"site": "s", "siem": chosen, "places": places})
    tries: list[str] = []

    def is_full(_cursor: Cursor, _folder: Path) -> None:
        tries.append("")
        if len(tries) > 2:
            ending.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Cursor, "write", is_full)
    monkeypatch.setattr(siem, "sender", lambda *_args, **_more: collector)
    monkeypatch.setattr(siem, "LATER_SECONDS", 0.0)

    siem.run(config, tmp_path, ledger, ending, Pulse())

    found = Standing.read(config.at.siem_now)
    assert (len(tries), collector.taken) == (3, [0])
    assert found is not None
    assert found.error == "what was sent could not be noted (No space left on device)"


def test_after_a_restore_the_records_that_are_others_are_sent_again(tmp_path: Path) -> None:
    lost, restored, collector = MemoryLedger(CLOCK), MemoryLedger(CLOCK), Collector()
    for number in range(5):
        lost.append("trust.rotated", {"version": number})
    forwarder(lost, tmp_path, collector).turn()
    collector.taken.clear()
    restored.append("trust.rotated", {"version": 0})

    assert forwarder(restored, tmp_path, collector).turn() == 2
    assert collector.taken == [0, 1]


def restored(ledger: MemoryLedger, size: int, more: int = 0) -> MemoryLedger:
    """Return the ledger that a backup of so many records brings back, with some records of its own epoch."""
    backend, made, key = MemoryBackend(), MemoryLedger(CLOCK), Ed25519PrivateKey.generate()
    nodes = [one for one in ledger.log.backend.nodes(0, size) if one[0]]
    backend.append(ledger.log.backend.rows(0, size), nodes)
    signer = Signer(public=key.public_key().public_bytes_raw(), sign=key.sign)
    made.log = Log.begin_epoch(backend, clock=CLOCK, site="demo", signer=signer, facts={"by": ["Ann", "Bo"]})
    return grown(made, more)


def grown(ledger: MemoryLedger, more: int) -> MemoryLedger:
    for number in range(more):
        ledger.append("trust.rotated", {"version": number})
    return ledger


class Copies:
    """A collector that keeps each record once, by number and leaf hash."""

    def __init__(self) -> None:
        self.held: set[tuple[int, str]] = set()
        self.taken = 0

    def __call__(self, batch: bytes) -> None:
        found = [json.loads(line) for line in batch.splitlines()]
        self.held |= {(one["sequence"], one["leaf"]) for one in found}
        self.taken += len(found)

    def lacks(self, ledger: MemoryLedger) -> list[int]:
        leaves = ledger.leaves(0, 1000)
        return [leaf.sequence for leaf in leaves if (leaf.sequence, leaf.hash) not in self.held]


def send_all(ledger: MemoryLedger, folder: Path, copies: Copies) -> None:
    one = Forwarder(ledger, folder, encode=FORMATS["json"], host="box", send=copies)
    while one.turn():
        pass


def test_after_two_restores_with_the_forwarder_down_nothing_of_the_first_lacks(tmp_path: Path) -> None:
    copies, first = Copies(), grown(MemoryLedger(CLOCK), 99)
    send_all(first, tmp_path, copies)

    twice = restored(restored(first, 40, 30), 60, 5)
    send_all(twice, tmp_path, copies)

    assert copies.lacks(twice) == []
    assert copies.taken == 100 + twice.head().size - 40


def test_a_restore_of_a_later_backup_than_the_one_that_was_restored_before_skips_no_record(tmp_path: Path) -> None:
    """The first restore's epoch is gone; of the epoch before it the collector has no more than was sent."""
    copies, first = Copies(), grown(MemoryLedger(CLOCK), 29)
    send_all(first, tmp_path, copies)
    grown(first, 70)
    send_all(restored(first, 50, 9), tmp_path, copies)

    again = restored(first, 80, 3)
    send_all(again, tmp_path, copies)

    assert copies.lacks(again) == []


@pytest.mark.parametrize("kept", [None, b"{}", b""])
def test_of_what_a_release_before_sent_all_is_sent_from_the_first_restore_on(
    tmp_path: Path, kept: bytes | None
) -> None:
    copies, first = Copies(), grown(MemoryLedger(CLOCK), 99)
    send_all(first, tmp_path, copies)
    (tmp_path / sentepochs.FILE).unlink()
    if kept is not None:
        (tmp_path / sentepochs.FILE).write_bytes(kept)

    twice = restored(restored(first, 40, 30), 60, 60)
    send_all(twice, tmp_path, copies)

    assert copies.lacks(twice) == []


def test_a_ledger_that_was_cut_back_without_a_restore_does_not_end_the_forwarder(tmp_path: Path) -> None:
    copies, first = Copies(), grown(MemoryLedger(CLOCK), 99)
    send_all(restored(first, 60, 9), tmp_path, copies)
    shorter = MemoryLedger(CLOCK)
    backend = MemoryBackend()
    backend.append(first.log.backend.rows(0, 30), [one for one in first.log.backend.nodes(0, 30) if one[0]])
    shorter.log = Log.read(backend, clock=CLOCK)

    send_all(shorter, tmp_path, copies)

    assert copies.lacks(shorter) == []
    assert Cursor.read(tmp_path).sequence == 30


def test_epochs_that_cannot_be_noted_are_noted_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies, ledger = Copies(), restored(grown(MemoryLedger(CLOCK), 9), 5, 2)
    one = Forwarder(ledger, tmp_path, encode=FORMATS["json"], host="box", send=copies)
    monkeypatch.setattr(sentepochs.SentEpochs, "write", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        one.turn()
    monkeypatch.undo()

    assert (copies.taken, one.turn()) == (0, 8)
    assert [first for _, first in sentepochs.SentEpochs.read(tmp_path).begun] == [0, 5]


def test_a_collector_has_a_name_and_an_address_or_neither() -> None:
    found = configuration.parse(b'site = "s"\n[siem]\nserver = "siem.h"\naddress = "10.0.0.9"\n')

    assert found.siem.format == "rfc5424"
    assert "tcp 10.0.0.9 6514" in found.destinations
    with pytest.raises(ConfigError):
        configuration.parse(b'site = "s"\n[siem]\nserver = "siem.h"\n')
