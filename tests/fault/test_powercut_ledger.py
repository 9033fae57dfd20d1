"""The power goes while the ledger, the state and the promoter write, at any write: what was acknowledged is there.

On a disk of its own, whose every write is logged, 64 writers record intents and outcomes through the ledger's doors;
on another, a promoter enrols people, promotes and stops, and the state follows. The disk is made again as it was at
many flushes, every other one torn. The box starts on it: the tree verifies, every acknowledged record is at its place
with its hash, an intent without an outcome is closed as unknown, state and promoter follow the ledger and go on.

SEALIFT_POWERCUTS sets at how many points the power goes (100, of which 60 are the ledger's; SEALIFT_DEEP=1 makes 500).
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from appliance import config as configuration
from appliance.audit import pin
from appliance.audit.facts import Appended
from appliance.audit.log import Log
from appliance.audit.memory import MemoryLedger
from appliance.audit.opening import open_log
from appliance.audit.verify import verify
from appliance.keys.files import FileKeys, create_missing
from appliance.state import projection
from appliance.state.database import open_state
from appliance.state.tables import Base
from media.clock import FixedClock
from tests.support.ledger import LedgerSite, intent
from tests.support.powercut import LoggedDisk, logged_disk, mounted
from tests.support.promotion import Site, digest
from tests.support.signatories import signatories

pytestmark = pytest.mark.fault

CUTS = int(os.environ.get("SEALIFT_POWERCUTS", "500" if os.environ.get("SEALIFT_DEEP") == "1" else "100"))
OF_LEDGER = max(CUTS * 3 // 5, 2)
OF_STATE = max(CUTS - OF_LEDGER, 2)
WRITERS = 64
ROUNDS = 3
ANA, BEN, *_ = signatories()
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)

Promise = tuple[int, str, Appended]
"""How many writes the disk had logged when it was acknowledged, the request, and what was acknowledged."""


class DiskLedger(MemoryLedger):
    """The ledger of a folder with every right, in this process, for one caller at a time."""

    def __init__(self, log: Log) -> None:
        super().__init__(FixedClock(NOW))
        self.log = log


@contextmanager
def box(place: Path) -> Iterator[LedgerSite]:
    """Yield the box on a disk; its sockets lie elsewhere."""
    run = Path(tempfile.mkdtemp(prefix="sealift-"))
    file = run / "sealift.toml"
    file.write_text(f'format = 1\nsite = "demo"\nenvironment = "demo"\n[places]\nroot = "{place}/box"\nrun = "{run}"\n')
    try:
        yield LedgerSite(config=configuration.load(file), config_file=file)
    finally:
        shutil.rmtree(run)


@contextmanager
def ledger_of(site: LedgerSite) -> Iterator[DiskLedger]:
    with open_log(site.config, keys=FileKeys(site.places.key_files), clock=FixedClock(NOW)) as log:
        yield DiskLedger(log)


def prepare(place: Path) -> None:
    with box(place) as site:
        create_missing(site.places.key_files)
        with ledger_of(site):
            pass


def write(site: LedgerSite, disk: LoggedDisk, number: int, promised: list[Promise]) -> None:
    """One of the writers: intents and outcomes, and of each what was acknowledged, and when."""
    door = site.door("ledger-gateway")
    for count in range(ROUNDS):
        request_id = f"req_{number}_{count}"
        begun = door.append("request.intent", intent(request_id, text="x" * 500))
        promised.append((disk.written(), request_id, begun))
        if count % 2 == 0:
            ended = door.append("request.outcome", {"request_id": request_id, "outcome": "ok"})
            promised.append((disk.written(), request_id, ended))
    door.close()


def written_by_many(folder: Path) -> tuple[LoggedDisk, list[Promise]]:
    promised: list[Promise] = []
    with logged_disk(folder, prepare=prepare) as disk, box(disk.place) as site, site.running():
        threads = [threading.Thread(target=write, args=(site, disk, number, promised)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(promised) == WRITERS * (ROUNDS + (ROUNDS + 1) // 2)
    return disk, promised


def require_everything_promised(ledger: DiskLedger, promised: list[Promise], cut: int) -> int:
    """Find each record that was acknowledged before the cut at its place; return how many there were."""
    leaves = {leaf.sequence: leaf for leaf in ledger.leaves(0, 100_000)}
    kept = [(request_id, told) for at, request_id, told in promised if at <= cut]
    for request_id, told in kept:
        leaf = leaves[told.sequence]
        assert (leaf.hash, leaf.body["request_id"]) == (told.leaf_hash, request_id)
    return len(kept)


def require_nothing_open(ledger: DiskLedger) -> int:
    """Every intent has one outcome at least, and what nobody recorded is unknown; return how many are."""
    intents = {leaf.body["request_id"] for leaf in ledger.leaves(0, 100_000, kinds=["request.intent"])}
    outcomes = [leaf.body for leaf in ledger.leaves(0, 100_000, kinds=["request.outcome"])]
    assert {body["request_id"] for body in outcomes} == intents
    assert len(outcomes) == len(intents)
    assert {body["outcome"] for body in outcomes} <= {"ok", "unknown"}
    return sum(body["outcome"] == "unknown" for body in outcomes)


@pytest.mark.timeout(120 + 5 * CUTS)
def test_no_acknowledged_record_is_lost_and_the_tree_verifies_wherever_the_power_goes(tmp_path: Path) -> None:
    disk, promised = written_by_many(tmp_path / "disk")
    kept, unknown = [], []
    for cut, torn in disk.log.cuts(OF_LEDGER):
        disk.log.replay(cut, tmp_path / "disk" / "image", torn=torn)
        with mounted(tmp_path / "disk" / "image", disk.place), box(disk.place) as site, ledger_of(site) as ledger:
            kept.append(require_everything_promised(ledger, promised, cut))
            unknown.append(require_nothing_open(ledger))
            done = verify(ledger, pinned=pin.read_pin(site.places))
            assert done.ok, done.findings
            ledger.append("request.intent", intent("req_after"))

    assert kept[0] < kept[-1]  # the cuts lie among the writes, not beside them
    assert max(kept) > len(promised) // 2
    assert max(unknown) > 0


def live(site: Site, state: Engine, disk: LoggedDisk) -> list[tuple[int, int, str | None]]:
    """Promote and stop; return after how many writes each was acknowledged, its number, and what serves from then."""
    done: list[tuple[int, int, str | None]] = []
    for name in ("one", "two", "three"):
        promotion = site.promote(version := digest(name))
        done.append((disk.written(), promotion.sequence, version))
        projection.catch_up(state, site.ledger)
    stopped = site.client.stop(person=ANA.id, reason="smoke")
    done.append((disk.written(), stopped.sequence, None))
    projection.catch_up(state, site.ledger)
    return done


def rows(state: Engine) -> dict[str, list[Mapping[str, Any]]]:
    with state.connect() as connection:
        return {
            table.name: [dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


def promoter_of(site: LedgerSite, ledger: DiskLedger) -> Site:
    return Site(root=site.places.root, config=site.config, clock=FixedClock(NOW), ledger=ledger)


def require_followed(site: LedgerSite, ledger: DiskLedger, done: list[tuple[int, int, str | None]], cut: int) -> None:
    """State and promoter are where the ledger is, and the ledger has every promotion that was acknowledged."""
    known = {leaf.sequence for leaf in ledger.find(kind="promotion.", limit=100)}
    acknowledged = [(sequence, version) for at, sequence, version in done if at <= cut]
    assert {sequence for sequence, _ in acknowledged} <= known
    following = [version for _, _, version in done[len(acknowledged) : len(acknowledged) + 1]]
    promoter = promoter_of(site, ledger)
    if promoter.ledger.find(kind="person.enrolled", limit=2):
        people = promoter.client.people()
        assert len(people) <= 2
    current = promoter.client.current()["model_digest"]
    assert current in [acknowledged[-1][1] if acknowledged else None, *following]
    state = open_state(site.places)
    projection.catch_up(state, ledger)
    followed = rows(state)
    projection.rebuild(state, ledger)
    assert rows(state) == followed
    state.dispose()


@pytest.mark.timeout(120 + 5 * CUTS)
def test_state_and_promoter_follow_the_ledger_wherever_the_power_goes(tmp_path: Path) -> None:
    with logged_disk(tmp_path / "disk", prepare=prepare) as disk, box(disk.place) as site, ledger_of(site) as ledger:
        promoter, state = promoter_of(site, ledger), open_state(site.places)
        promoter.enrol(ANA, BEN)
        begin = disk.written()
        done = live(promoter, state, disk)
        state.dispose()
    assert len({at for at, _, _ in done}) == len(done)

    for number, (cut, torn) in enumerate(cuts := disk.log.cuts(OF_STATE)):
        disk.log.replay(cut, tmp_path / "disk" / "image", torn=torn)
        with mounted(tmp_path / "disk" / "image", disk.place), box(disk.place) as site, ledger_of(site) as ledger:
            require_followed(site, ledger, done, cut)
            assert verify(ledger, pinned=pin.read_pin(site.places)).ok
            if cut >= begin and number % 4 == 0:
                again = promoter_of(site, ledger)
                assert again.promote(digest(f"after {number}")).model_digest == digest(f"after {number}")
    assert cuts[-1][0] > done[-1][0]
