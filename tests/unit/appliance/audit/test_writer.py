import threading
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit.backend import Row
from appliance.audit.facts import Appended
from appliance.audit.leaf import Via
from appliance.audit.log import Entry, Log, Signer
from appliance.audit.memory import MemoryBackend
from appliance.audit.tree import Node
from appliance.audit.writer import Outcome, Writer
from appliance.errors import LedgerRefusedError, LedgerUnavailableError
from media.clock import SystemClock

PRIVATE = Ed25519PrivateKey.generate()


class TroubledBackend(MemoryBackend):
    """Memory that fails when a test says so, and counts batches."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Exception | None = None
        self.trouble_after: Exception | None = None
        self.broken = False
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def failed(self) -> bool:
        return self.broken

    def append(self, rows: Sequence[Row], nodes: Sequence[Node]) -> None:
        self.gate.wait(60)
        if self.trouble is not None:
            raise self.trouble
        self.batches.append(len(rows))
        super().append(rows, nodes)
        self.trouble = self.trouble_after

    def save_checkpoint(self, size: int, note: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        super().save_checkpoint(size, note)


class Rig:
    def __init__(self) -> None:
        self.backend = TroubledBackend()
        signer = Signer(public=PRIVATE.public_key().public_bytes_raw(), sign=PRIVATE.sign)
        self.log = Log.open(self.backend, clock=SystemClock(), site="demo", signer=signer)
        self.failures = 0
        self.writer = Writer(self.log, on_failure=self.fail)

    def fail(self) -> None:
        self.failures += 1

    def append(self, *numbers: int, kind: str = "request.intent") -> Sequence[Outcome]:
        return self.writer.append([entry(number, kind) for number in numbers])


def entry(number: int, kind: str = "request.intent") -> Entry:
    return Entry.of(kind, {"number": number}, via=Via(door="ledger-gateway", uid=1))


def full() -> LedgerUnavailableError:
    return LedgerUnavailableError(what="the ledger cannot be written or read", why="SQLITE_FULL")


def test_what_waits_while_the_disk_is_busy_becomes_one_batch() -> None:
    rig = Rig()
    rig.backend.gate.clear()
    answered: list[Outcome] = []
    rig.writer.start()
    for number in range(30):
        rig.writer.submit([entry(number), entry(number + 100)], answered.extend)

    rig.backend.gate.set()
    rig.writer.stop()

    assert sum(rig.backend.batches) == 61
    assert len(rig.backend.batches) <= 4
    assert [one.sequence for one in answered if isinstance(one, Appended)] == list(range(1, 61))


def test_a_full_disk_acknowledges_nobody_and_the_service_goes_on() -> None:
    rig = Rig()
    rig.writer.start()
    rig.backend.trouble = full()

    refused = rig.append(1, 2)
    rig.backend.trouble = None
    accepted = rig.append(3)
    rig.writer.stop()

    assert all(isinstance(one, LedgerUnavailableError) for one in refused)
    assert isinstance(accepted[0], Appended)
    assert accepted[0].sequence == 1
    assert rig.failures == 0


def test_a_failed_sync_acknowledges_nobody_and_asks_for_the_end() -> None:
    rig = Rig()
    rig.writer.start()
    rig.backend.trouble, rig.backend.broken = full(), True

    refused = rig.append(1)
    rig.writer.stop()

    assert isinstance(refused[0], LedgerUnavailableError)
    assert rig.failures == 1


def test_a_fault_of_ours_reaches_everyone_who_waits_and_asks_for_the_end() -> None:
    rig = Rig()
    rig.writer.start()
    rig.backend.trouble = ZeroDivisionError()

    refused = rig.append(1, 2)
    rig.writer.stop()

    assert [type(one) for one in refused] == [LedgerUnavailableError, LedgerUnavailableError]
    assert rig.failures >= 1


def test_a_checkpoint_follows_a_privileged_record_at_once_and_an_ordinary_one_not() -> None:
    rig = Rig()
    rig.writer.start()
    rig.append(1)
    assert rig.backend.checkpoint() is None

    rig.append(2, kind="trust.rotated")
    rig.writer.stop()

    kept = rig.backend.checkpoint()
    assert kept is not None
    assert kept[0] == 3


def test_a_checkpoint_that_cannot_be_kept_takes_nothing_back() -> None:
    rig = Rig()
    rig.writer.start()

    rig.backend.trouble_after = full()

    (outcome,) = rig.append(1, kind="trust.rotated")
    rig.writer.stop()

    assert isinstance(outcome, Appended)
    assert rig.failures == 0


def test_one_refused_record_does_not_touch_its_neighbours() -> None:
    rig = Rig()
    rig.writer.start()
    via = Via(door="ledger-gateway", uid=1)
    first = Entry.of("request.intent", {"number": 1}, via=via, key="k")
    other = Entry.of("request.intent", {"number": 2}, via=via, key="k")

    outcomes = rig.writer.append([first, other, entry(3)])
    rig.writer.stop()

    assert [type(one) for one in outcomes] == [Appended, LedgerRefusedError, Appended]
