"""A booted box's records go from its file to a PostgreSQL server over TLS and back, by the commands of the handbook.

The box is one of `tests.box.wired`, with the drop-ins that an install writes as soon as the site file names a server.
What two people approve, and how the install writes them, is `make box`'s and the unit tests' matter.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.audit.facts import InclusionProof, TreeHead
from appliance.audit.rights import ACTIONS
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import PlacesSection
from appliance.install.dropins import DATABASE
from appliance.postgres.connecting import AUTHORITY
from tests.box.checkout import SEALIFT, booted, journal
from tests.box.wired import SECRETS, SERVER, Node, lay, server, wait_until, wire
from tests.interop.test_postgresql_tls import NAME
from tests.support.postgres import PostgresServer

__all__ = ["server"]  # a fixture
pytestmark = [pytest.mark.box, pytest.mark.timeout(840)]

SITE = "etc/sealift/sealift.toml"
LEDGER = "var/lib/sealift/ledger"
# Of the target what this needs: people, engines and the web server are not here.
TARGET = """[Unit]
Wants=sealift-ledger.service sealift-gateway.service sealift-promoter.service sealift-jobs.service sealift-admin.service
[Install]
WantedBy=multi-user.target
"""
RUNNING = ("ledger", "gateway", "promoter", "jobs", "admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What somebody outside kept of a record before it was moved: its bytes and the proof that the tree had it."""

    sequence: int
    raw: bytes
    proof: InclusionProof
    head: TreeHead


@pytest.fixture
def box(server: PostgresServer, tmp_path: Path) -> Iterator[Node]:
    """A box that answers, its records in its file; it can reach the server, which has no tables yet."""
    site = (
        f'format = 1\nsite = "demo"\n\n# Ours since May.\n[database]\nserver = "{NAME}"  # by its certificate\n'
        f'address = "{SERVER}"\nport = {server.port}\nname = "{server.database()}"\n'
    )

    def lay_box(root: Path) -> None:
        lay(root, site=site, authority=tmp_path / AUTHORITY, keys=tmp_path / "keys")
        (root / "etc/systemd/system/sealift.target").write_text(TARGET)
        (root / SITE).chmod(0o644)

    with booted("sldbmove", lay_box) as machine:
        wire(machine, "one")
        machine.run("systemctl", "enable", "--now", "sealift.target", shown=False)
        node = Node(name="one", machine=machine)
        answers(node)
        yield node


def answers(box: Node) -> None:
    for unit in RUNNING:
        wait_until(partial(runs, box, unit), journal(box.machine, f"sealift-{unit}"), 60)
    wait_until(
        lambda: box.asked("/livez")[0] == 200 and not box.lacks_ledger(), journal(box.machine, "sealift-gateway"), 60
    )


def runs(box: Node, unit: str) -> bool:
    return box.state(f"sealift-{unit}") == "running"


def ledger_of(box: Node) -> SocketLedger:
    found = configuration.parse((box.machine.root / SITE).read_bytes())
    root = PlacesSection(root=f"/proc/{box.machine.leader}/root")
    return SocketLedger(found.model_copy(update={"places": root}).at.socket(ACTIONS), timeout_seconds=60)


def keep(box: Node, sequence: int) -> Kept:
    with closing(ledger_of(box)) as ledger:
        head = ledger.head()
        leaf = ledger.leaf(sequence)
        return Kept(sequence=sequence, raw=leaf.raw, proof=ledger.inclusion(sequence, head.size), head=head)


def still_holds(box: Node, kept: Kept) -> None:
    """The old proof, the record it is of, and the tree then: all of it is in the tree now."""
    kept.proof.require(kept.raw)
    with closing(ledger_of(box)) as ledger:
        assert ledger.leaf(kept.sequence).raw == kept.raw
        now = ledger.head()
        assert now.origin == kept.head.origin
        between = ledger.consistency(kept.head.size, now.size)
    between.require()
    assert (between.old_root, between.new_root) == (kept.head.root, now.root)


def refused(box: Node, words: str) -> dict[str, str]:
    done = box.machine.shell(f"{SEALIFT} {words} 2>/dev/null")
    assert done.returncode != 0, done.stdout
    error: dict[str, str] = json.loads(done.stdout)["error"]
    return error


def test_a_box_goes_to_the_server_and_back_with_everything_it_recorded(box: Node, server: PostgresServer) -> None:
    machine, site = box.machine, box.machine.root / SITE
    in_file = site.read_text()
    key = str(box.sealift("keys create --department radiology --owner box")["key"])
    kept = keep(box, 3)
    note = str(box.sealift("audit checkpoint")["note"])
    (machine.root / "root/printed.txt").write_text(note)

    # What is found missing stops nothing.
    assert "db migrate up --on postgresql" in refused(box, "db move --to postgresql")["fix"]
    assert box.sealift("db migrate up --on postgresql")["changes"]
    (machine.root / SECRETS / "database-owner").unlink()
    drop_in = machine.root / f"etc/systemd/system/sealift-ledger.service.d/{DATABASE}"
    text = drop_in.read_text()
    drop_in.unlink()
    assert "sealift install --plan" in refused(box, "db move --to postgresql")["fix"]
    drop_in.write_text(text)
    assert box.sealift("db move --to postgresql --dry-run")["dry_run"] is True
    box.plug(is_in=False)
    assert refused(box, "db move --to postgresql")
    box.plug(is_in=True)
    assert site.read_text() == in_file
    answers(box)

    there = box.sealift("db move --to postgresql")

    answers(box)
    assert {f"sealift-{unit}.service" for unit in ("gateway", "promoter", "admin")} <= set(there["restarted"])  # type: ignore[call-overload]
    assert site.read_text().replace('\nkind = "postgresql"', "") == in_file
    assert server.admin("SELECT count(*) > 0 FROM sealift_ledger.leaf", named(in_file))[0][0]
    assert box.asked("/v1/models", key)[0] == 200
    second = str(box.sealift("keys create --department surgery --owner box")["key"])
    assert box.asked("/v1/models", second)[0] == 200
    still_holds(box, kept)
    verified(box)
    assert box.sealift("db check")["ok"] is True

    on_server = site.read_text()
    the_power_fails_before_the_site_file_says_so(box, in_file)
    assert site.read_text() == on_server
    still_holds(box, kept)
    later = keep(box, kept.head.size)

    back = box.sealift("db move --to sqlite")

    answers(box)
    assert back["size"] > later.head.size  # type: ignore[operator]
    assert site.read_text().replace('\nkind = "sqlite"', "") == in_file
    assert box.asked("/v1/models", second)[0] == 200
    box.sealift("keys create --department pharmacy --owner box")
    assert len(box.sealift("keys list")["keys"]) == 3  # type: ignore[arg-type]
    still_holds(box, kept)
    still_holds(box, later)
    verified(box)
    assert server.admin("SELECT moved FROM sealift_ledger.writer", named(in_file))[0][0]
    assert box.sealift("db move --to sqlite")["needed"] is False
    assert "empty" in refused(box, "db move --to postgresql")["fix"]
    answers(box)


def verified(box: Node) -> None:
    found = box.sealift("audit verify --checkpoint /root/printed.txt")
    assert found["ok"] is True, found


def named(site: str) -> str:
    return configuration.parse(site.encode()).database.name


def the_power_fails_before_the_site_file_says_so(box: Node, in_file: str) -> None:
    """Scenario: power is cut right after the copy; the box boots, nothing goes on in the file, one command ends it."""
    box.machine.cut_power()
    (box.machine.root / SITE).write_text(in_file)
    size = (box.machine.root / LEDGER / "ledger.db").stat().st_size
    box.machine.boot()
    wire(box.machine, "one")
    wait_until(lambda: box.state() == "failed", "the ledger went on, or waits")
    assert "sealift db move --to postgresql" in journal(box.machine, "sealift-ledger")
    wait_until(box.lacks_ledger, journal(box.machine, "sealift-gateway"))

    box.sealift("db move --to postgresql")

    answers(box)
    assert (box.machine.root / LEDGER / "ledger.db").stat().st_size == size


# When the command is killed, by what can be seen on the box at that moment.
FILE = f"/{LEDGER}/ledger"
MOMENTS = {
    "postgresql": (
        "! systemctl is-active -q sealift-ledger.service",
        f"test -e {FILE}.elsewhere",
        f"! grep -q arriving {FILE}.elsewhere && test -e {FILE}.elsewhere",
        f"grep -q 'kind = .postgresql' /{SITE}",
        f"grep -q 'kind = .postgresql' /{SITE} && systemctl is-active -q sealift-ledger.service",
    ),
    "sqlite": (
        "! systemctl is-active -q sealift-ledger.service",
        f"test -e {FILE}.copying",
        f"! test -e {FILE}.elsewhere",
        f"grep -q 'kind = .sqlite' /{SITE}",
    ),
}


def is_killed(box: Node, to: str, moment: str) -> bool:
    """Type the command, and end it by SIGKILL at a moment; return whether it was still at work."""
    script = (
        f"{SEALIFT} db move --to {to} >/root/moved 2>&1 & pid=$!;"
        f" while kill -0 $pid 2>/dev/null && ! {{ {moment}; }}; do :; done;"
        " kill -9 $pid 2>/dev/null; wait $pid; echo $?"
    )
    return box.machine.shell(script).stdout.split()[-1] == "137"


def test_a_move_that_is_killed_at_any_moment_is_gone_on_with_by_the_same_command(
    box: Node, server: PostgresServer
) -> None:
    site = box.machine.root / SITE
    key = str(box.sealift("keys create --department radiology --owner box")["key"])
    kept, killed = [keep(box, 3)], []
    (box.machine.root / "root/printed.txt").write_text(str(box.sealift("audit checkpoint")["note"]))
    for round_number, there in enumerate(MOMENTS["postgresql"]):
        text = site.read_text()
        site.write_text(text.replace(f'name = "{named(text)}"', f'name = "{server.database()}"'))
        assert box.sealift("db migrate up --on postgresql")["changes"]
        back = MOMENTS["sqlite"][min(round_number, len(MOMENTS["sqlite"]) - 1)]
        for to, moment in (("postgresql", there), ("sqlite", back)):
            killed += [(to, moment)] if is_killed(box, to, moment) else []

            box.sealift(f"db move --to {to}")

            answers(box)
            assert configuration.parse(site.read_bytes()).database.kind == to
            assert box.asked("/v1/models", key)[0] == 200
            for one in kept:
                still_holds(box, one)
            verified(box)
            box.sealift("keys create --department surgery --owner box")
            kept.append(keep(box, kept[-1].head.size))
    assert len(killed) >= 2 * len(MOMENTS["postgresql"]) - 1, killed
