"""A promotion on one node is carried out by the other, over one database server, by what its timer starts each minute.

Scenario: two people promote a version by way of node a; node b, whose store lacks it at first, looks as its unit does.
Promise: b starts nothing that its store does not hold, then starts the engine by a job of its own, which is recorded
under its name; it follows going back and a stop; the one tree verifies.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from appliance.actions import canary, elsewhere
from appliance.actions.databases import migrating
from appliance.actions.elsewhere import follow
from appliance.actions.production import Surroundings, settle
from appliance.actions.promote import promote
from appliance.actions.rollback import rollback
from appliance.actions.routes import explain
from appliance.actions.stop import stop
from appliance.audit.facts import Appended
from appliance.audit.memory import MemoryLedger
from appliance.audit.socket_ledger import SocketLedger
from appliance.audit.verify import verify
from appliance.errors import UnitError, UnknownVersionError
from appliance.gateway.routing import StateRoutes
from appliance.install.jobclient import JobsSupervisor
from appliance.install.jobdesk import JobDesk
from appliance.install.jobs import Kind
from appliance.install.supervisor import UnitFacts, engine_unit
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.router import Query
from appliance.state import projection
from appliance.state.database import open_state
from appliance.wire import Peer
from media.clock import FixedClock
from tests.support.floor import Floor
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.postgres import PostgresServer
from tests.support.promotion import Site
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor
from tests.support.versions import EngineSupervisor, store_version

pytestmark = pytest.mark.interop

ANA, BEN, *_ = signatories()
DECIDES = ("promotion.", "person.", "approval.", "stop.")


@dataclass(slots=True)
class Doors:
    """A node's ledger: what the promoter records goes through its own door."""

    promoter: SocketLedger
    actions: SocketLedger

    def append(self, kind: str, body: Mapping[str, Any]) -> Appended:
        return (self.promoter if kind.startswith(DECIDES) else self.actions).append(kind, body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.actions, name)


@dataclass(slots=True)
class Jobs:
    """The job service of a node, asked by the unit that switches production."""

    desk: JobDesk

    def ask(self, kind: Kind, **named: Any) -> int:
        peer = Peer(door="jobs-switch", pid=1, uid=0, gid=0)
        return int(self.desk(peer, {"do": "ask", "kind": str(kind), "person": "", **named})["job"])

    def units(self) -> tuple[UnitFacts, ...]:
        return self.desk._supervisor.units()


@dataclass(slots=True)
class Node:
    """A whole node but its gateway; `jobs` is how the unit of its timer reaches engines."""

    floor: Floor
    jobs: JobsSupervisor

    def looks(self) -> None:
        """Do what the timer's unit does."""
        here: Surroundings = Surroundings(
            config=self.floor.site.config,
            ledger=self.floor.site.ledger,
            state=self.floor.state,
            promoter=self.floor.site.client,
            supervisor=self.jobs,
            clock=self.floor.site.clock,
            sleep=self.floor.site.clock.advance,
        )
        canary.judge(here)
        follow(here)


def node_of(site: LedgerSite, stack: ExitStack, clock: FixedClock) -> Node:
    stack.enter_context(site.running(clock))
    # Of a demo nobody reads answers before a promotion.
    config = site.config.model_copy(update={"environment": "demo"})
    doors = Doors(*(stack.enter_context(closing(site.door(name))) for name in ("ledger-promoter", "ledger-actions")))
    made = Site(root=site.places.root, config=config, clock=clock, ledger=cast("MemoryLedger", doors))
    engines = EngineSupervisor(config)
    stack.callback(engines.close)
    floor = Floor(site=made, state=open_state(config.at), supervisor=engines)
    stack.callback(floor.state.dispose)
    desk = JobDesk(config, made.ledger, supervisor=engines, runner=FakeSupervisor())
    return Node(floor, JobsSupervisor(cast("Any", Jobs(desk))))


@pytest.fixture
def nodes(postgres: PostgresServer, tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    name, clock = postgres.database(), FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    migrating.migrate(postgres.places(tmp_path / "owner", name), "up")
    with ExitStack() as stack:
        sites = []
        for node in ("a", "b"):
            section = postgres.section(name).model_copy(update={"node": node})
            sites.append(stack.enter_context(ledger_site(tmp_path / node, database=section)))
        for path in sites[0].places.key_files.iterdir():
            copied = sites[1].places.key_files / path.name
            copied.unlink()
            copied.write_bytes(path.read_bytes())
            copied.chmod(0o400)
        a, b = (node_of(site, stack, clock) for site in sites)
        a.floor.site.enrol(ANA, BEN)
        yield a, b


def test_what_is_decided_on_one_node_is_carried_out_by_the_other(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    first, second = a.floor.bring("first"), a.floor.bring("second")
    for version in (first, second):
        b.floor.supervisor.know(version)
    units = {version: engine_unit("production", version.model_digest) for version in (first, second)}

    a.floor.serve(first)
    with pytest.raises(UnknownVersionError):
        b.looks()
    assert b.floor.running() == set()
    assert b.floor.in_production() == first.model_digest

    for serial, weights in ((1, b"first"), (2, b"second")):
        store_version(b.floor.site.config, serial=serial, weights=weights)
    b.looks()
    assert b.floor.running() == {units[first]}

    a.floor.serve(second)
    b.looks()
    assert b.floor.running() == {units[second]}

    rollback(a.floor.here, person=ANA.id, reason="worse")
    b.looks()
    assert b.floor.running() == {units[first]} == a.floor.running()

    stop(a.floor.here, person=ANA.id, reason="to be sure")
    b.looks()
    assert b.floor.running() == set()

    ledger = b.floor.site.ledger
    asked = [
        (leaf.body["kind"], leaf.body["digest12"], leaf.via.node)
        for leaf in ledger.find("job.asked", newest_first=False)
        if leaf.body["kind"] == str(Kind.START_PRODUCTION)
    ]
    assert asked == [("start-production-engine", version.model_digest[:12], "b") for version in (first, second, first)]
    assert {leaf.via.node for leaf in ledger.find("promotion.")} == {"a"}
    assert verify(ledger).ok


def reached(node: Node) -> str | None:
    """Return the version that callers of a node are sent to, as its gateway reads it anew."""
    found = StateRoutes(node.floor.site.config.at, node.floor.site.clock).lines().first
    return None if found is None else found.production.model_digest


def both_serve(a: Node, b: Node, *names: str) -> list[ModelDescriptor]:
    """Bring versions to both nodes, of which the first serves on each."""
    found = [a.floor.bring(name) for name in names]
    for serial, (name, version) in enumerate(zip(names, found, strict=True), start=1):
        store_version(b.floor.site.config, serial=serial, weights=name.encode())
        b.floor.supervisor.know(version)
    a.floor.serve(found[0])
    b.looks()
    assert reached(a) == reached(b) == found[0].model_digest
    return found


def test_callers_of_no_node_are_sent_to_a_version_before_an_engine_of_the_node_that_decided_answers(
    nodes: tuple[Node, Node],
) -> None:
    a, b = nodes
    first, second = both_serve(a, b, "first", "second")
    unit = engine_unit("production", second.model_digest)
    a.floor.supervisor.broken = frozenset({unit})
    with pytest.raises(UnitError):
        a.floor.serve(second)

    # What each node does by itself, and any command, brings the state up.
    b.looks()
    projection.catch_up(a.floor.state, a.floor.site.ledger)

    assert reached(a) == reached(b) == first.model_digest
    assert a.floor.running() == b.floor.running() == {engine_unit("production", first.model_digest)}
    said = explain(b.floor.site.config, b.floor.state, Query()).to_json()
    assert (said["answers"], said["held_back"]) == (first.model_digest, [second.model_digest])

    a.floor.supervisor.broken = frozenset()
    promote(a.floor.here, second.model_digest, person="")
    assert reached(a) == second.model_digest
    b.looks()
    assert reached(b) == second.model_digest
    assert b.floor.running() == {unit} == a.floor.running()


def test_a_window_that_ends_on_another_node_tells_nobody_what_is_still_to_be_carried_out(
    nodes: tuple[Node, Node],
) -> None:
    a, b = nodes
    first, second = both_serve(a, b, "first", "second")
    a.floor.supervisor.broken = frozenset({engine_unit("production", second.model_digest)})
    with pytest.raises(UnitError):
        a.floor.serve(second)

    b.looks()  # its promoter learns what was decided
    b.floor.supervisor.rest(engine_unit("production", first.model_digest))

    settle(b.floor.here, line=1)

    assert reached(a) == first.model_digest
    assert b.floor.running() == {engine_unit("production", second.model_digest)}
    assert reached(b) == second.model_digest  # it has that engine alone
    assert projection.told_sequence(b.floor.state) < b.floor.site.ledger.find("promotion.made", limit=1)[0].sequence


def test_what_is_decided_while_another_node_follows_is_first_carried_out_where_it_was(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = nodes
    first, second, third = both_serve(a, b, "first", "second", "third")
    a.floor.serve(second)
    a.floor.supervisor.broken = frozenset({engine_unit("production", third.model_digest)})

    def late(here: Surroundings, **how: Any) -> Any:
        monkeypatch.setattr(elsewhere, "settle", settle)
        with pytest.raises(UnitError):
            a.floor.serve(third)
        return settle(here, **how)

    monkeypatch.setattr(elsewhere, "settle", late)
    b.looks()

    assert reached(a) == second.model_digest
    assert engine_unit("production", third.model_digest) not in b.floor.running()
    assert first.model_digest != reached(b)
