"""The units of two boxes under systemd: one holds the lease, the other is kept current, a cut cable moves the service.

Two bare Debian 12 with this machine's /usr (as in test_tls_unit), their ledgers, leases and syncs as the units are,
with the drop-ins that the install writes; a cable between them is cut while both run.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.audit import pin
from appliance.audit.rights import ACTIONS
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config, PlacesSection
from appliance.standby.pairing import Relation
from tests.box.checkout import SEALIFT, booted, journal, lay_down, lay_drop_ins
from tests.box.machine import Machine
from tests.box.pair import introduce, run

pytestmark = [pytest.mark.box, pytest.mark.timeout(840)]

SERVICE = "10.79.0.100"
ADDRESSES = {"one": "10.79.0.1", "two": "10.79.0.2"}
UNITS = ("sealift-standby.socket", "sealift-standby.service")


@dataclass(slots=True)
class Box:
    """A booted box; its files and sockets are reached from here through its first process."""

    name: str
    machine: Machine
    opened: SocketLedger | None = None

    @property
    def config(self) -> Config:
        """The site file, with the places of the box as they are reached from here."""
        found = configuration.parse((self.machine.root / "etc/sealift/sealift.toml").read_bytes())
        return found.model_copy(update={"places": PlacesSection(root=f"/proc/{self.machine.leader}/root")})

    @property
    def ledger(self) -> SocketLedger:
        if self.opened is None:
            self.opened = SocketLedger(self.config.at.socket(ACTIONS), timeout_seconds=60)
        return self.opened

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()
        self.opened = None

    def told(self, unit: str) -> str:
        return journal(self.machine, unit)

    def start(self, *units: str) -> None:
        assert self.machine.shell(f"systemctl start {' '.join(units)}").returncode == 0, self.told(units[-1])

    def sealift(self, words: str) -> dict[str, object]:
        done = self.machine.shell(f"{SEALIFT} {words}")
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def serves(self) -> bool:
        return self.sealift("standby lease")["serving"] is True

    def has_service_address(self) -> bool:
        return SERVICE in self.machine.shell("ip address show dev cable0").stdout

    def neighbours(self) -> str:
        return self.machine.shell("ip -4 neighbour show dev cable0").stdout

    def announced(self) -> int:
        return self.told("sealift-announce").count("Finished sealift-announce.service")

    def kinds(self) -> set[str]:
        return {leaf.kind for leaf in self.ledger.find(kind="standby.", limit=1000)}


def drilled_by_the_unit(box: Box) -> dict[str, bool | None]:
    """Have the unit that keeps a standby current drill the fail-over, as it does once a month; return what holds."""
    folder = box.machine.root / "etc/systemd/system/sealift-standby-sync.service.d"
    folder.mkdir(exist_ok=True)
    command = box.machine.shell("systemctl cat sealift-standby-sync | sed -n s/^ExecStart=//p").stdout.split()
    lines = ["[Service]", "SuccessExitStatus=52", "ExecStart=", f"ExecStart={' '.join(command[:-1])} drill"]
    (folder / "drill.conf").write_text("\n".join(lines) + "\n")
    box.machine.run("systemctl", "daemon-reload", shown=False)
    box.start("sealift-standby-sync.service")
    (folder / "drill.conf").unlink()
    box.machine.run("systemctl", "daemon-reload", shown=False)
    newest = max(box.ledger.find(kind="standby.drilled"), key=lambda leaf: leaf.sequence).body
    return {check["check"]: check["holds"] for check in newest["checks"]}


def wait_until(holds: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def boxes() -> Iterator[dict[str, Box]]:
    with contextlib.ExitStack() as stack:
        made = {
            name: Box(name=name, machine=stack.enter_context(booted(f"slsu{name}", partial(lay, name=name))))
            for name in ADDRESSES
        }
        one, two = (box.machine.leader for box in made.values())
        run("ip", "link", "add", "cable0", "netns", str(one), "type", "veth", "peer", "cable0", "netns", str(two))
        for name, box in made.items():
            box.machine.run("ip", "address", "add", f"{ADDRESSES[name]}/24", "dev", "cable0", shown=False)
            box.machine.run("ip", "link", "set", "cable0", "up", shown=False)
            # Whoever never spoke to an address learns it from its announcement alone (ip-sysctl, arp_accept).
            run("nsenter", "-t", str(box.machine.leader), "-n", "sysctl", "-qw", "net.ipv4.conf.cable0.arp_accept=1")
            box.start("sealift-ledger.service", "sealift-promoter.service")
            stack.callback(box.close)
            pin.pin(box.config.at, box.ledger.vkey())  # as the install does
        # Over their real ledgers, whose doors are reached from here.
        introduce(made["one"], made["two"], Relation.STANDBY)
        yield made


def lay(root: Path, *, name: str) -> None:
    """Lay down an installation of one box of a pair."""
    other = next(each for each in ADDRESSES if each != name)
    site = (
        'format = 1\nsite = "demo"\n[standby]\nlease = true\ninterface = "cable0"\n'
        f'listen = "{ADDRESSES[name]}"\npeer = "{other}"\npeer_address = "{ADDRESSES[other]}"\n'
        f'service_address = "{SERVICE}"\n'
    )
    lay_down(root, site)
    lay_drop_ins(root, site)


IDLE = """[Service]
Type=simple
WatchdogSec=0
ExecStart=
ExecStart=/bin/sleep infinity
CPUAffinity=
"""


def test_everything_may_be_restarted_by_hand_more_often_than_an_engine_is_tried(boxes: dict[str, Box]) -> None:
    """Scenario: an operator restarts sealift.target again and again; each restart starts the engine, which is well."""
    box, engine = boxes["two"], f"sealift-engine-test@{'a' * 12}.service"
    folder = box.machine.root / "etc/systemd/system/sealift-engine-test@.service.d"
    folder.mkdir()
    (folder / "idle.conf").write_text(IDLE)
    # Of the target what this needs: the rest of a box is not here.
    (box.machine.root / "etc/systemd/system/sealift.target").write_text(
        f"[Unit]\nWants=sealift-ledger.service {engine}\n"
    )
    box.machine.run("systemctl", "daemon-reload", shown=False)

    states = []
    for _ in range(5):
        box.machine.run("systemctl", "restart", "sealift.target", shown=False)
        wait_until(lambda: box.machine.shell("systemctl is-active sealift-ledger").stdout.strip() == "active")
        states.append(box.machine.shell(f"systemctl is-active {engine}").stdout.strip())

    box.close()
    assert states == ["active"] * 5
    box.machine.run("systemctl", "stop", engine, shown=False)


def test_the_units_hold_the_lease_keep_the_other_box_current_and_follow_a_cut_cable(boxes: dict[str, Box]) -> None:
    one, two = boxes["one"], boxes["two"]
    for box in boxes.values():
        box.start(*UNITS)
    one.sealift("standby take-over --by Ana --by Ben --reason 'first start' --other-is-off")
    wait_until(lambda: one.serves() and one.has_service_address())
    wait_until(lambda: two.sealift("standby lease")["would_follow"] is True)
    # The unit that announces is started by whoever took the address; the neighbour heard where it is.
    wait_until(lambda: one.announced() == 1 and SERVICE in two.neighbours())
    assert two.announced() == 0

    one.start("sealift-standby-sync.service")
    # The secret of API keys is taken over once, by a person; the unit, which may write no key, says so.
    assert two.machine.shell("systemctl start sealift-standby-sync.service").returncode != 0
    assert "by hand" in two.told("sealift-standby-sync")
    one.start("sealift-standby-sync.service")
    two.sealift("standby sync")  # its records came with the unit, before the secret was refused
    one.ledger.append("key.revoked", {"key_id": "abcdefghij", "reason": "for a record that is news"})
    for box in (one, two):
        box.start("sealift-standby-sync.service")
    mirrored = two.machine.root / "var/lib/sealift/mirrors"
    assert "records of this box" in one.told("sealift-standby-sync")
    assert "records of one" in two.told("sealift-standby-sync")
    assert [path for path in mirrored.rglob("*") if path.is_file()]
    assert drilled_by_the_unit(two) == {
        "mirror": True,
        "decisions": True,
        "version": False,
        "keys": True,
        "lease": True,
    }  # nothing was promoted here

    before = one.machine.shell("systemctl show -P ActiveState,NRestarts sealift-standby").stdout
    one.machine.run("ip", "link", "set", "cable0", "down", shown=False)
    wait_until(lambda: two.serves() and two.has_service_address())
    wait_until(lambda: not one.serves() and not one.has_service_address())
    after = one.machine.shell("systemctl show -P ActiveState,NRestarts sealift-standby").stdout
    assert before == after
    assert "active" in after
    one.machine.run("ip", "link", "set", "cable0", "up", shown=False)
    wait_until(lambda: one.sealift("standby lease")["holder"] == "two")
    wait_until(lambda: "standby.lease-lost" in one.kinds() and "standby.took-over" in two.kinds())

    # Stopped in order, a box gives up permit and address at once, and the other one serves.
    wait_until(lambda: one.sealift("standby lease")["would_follow"] is True)
    assert two.machine.shell("systemctl stop sealift-standby.service").returncode == 0
    assert not two.has_service_address()
    wait_until(lambda: one.serves() and one.has_service_address())


def test_a_renewed_ledger_key_is_followed_by_the_other_box_and_holds_through_a_fail_over(
    boxes: dict[str, Box],
) -> None:
    """Scenario: the active box renews the key of its checkpoints; later its cable is cut, and the other one serves."""
    one, two = boxes["one"], boxes["two"]
    for box in boxes.values():
        box.start(*UNITS)
    if not one.serves():
        wait_until(lambda: two.sealift("standby lease")["holder"] != "two")
        one.sealift("standby take-over --by Ana --by Ben --reason 'a key is renewed' --other-is-off")
    wait_until(lambda: two.sealift("standby lease")["would_follow"] is True)
    printed = str(one.sealift("audit checkpoint")["note"])

    turned = one.sealift("box-keys rotate ledger-checkpoint --reason 'an administrator left'")
    one.close()  # its process is a new one
    assert turned["versions"] == [1, 2]
    assert turned["restarted"] == ["sealift-ledger.service"]
    assert [leaf.body["reason"] for leaf in one.ledger.find(kind="key.rotated")] == ["an administrator left"]
    assert len(one.ledger.find(kind="ledger.key-rotated")) == 1

    one.start("sealift-standby-sync.service")
    two.sealift("standby sync")
    assert "standby.key-followed" in two.kinds()
    (one.machine.root / "root/printed.txt").write_text(printed)
    assert one.sealift("audit verify --checkpoint /root/printed.txt")["ok"] is True
    assert two.sealift("audit verify")["ok"] is True

    wait_until(lambda: two.sealift("standby lease")["would_follow"] is True)
    one.machine.run("ip", "link", "set", "cable0", "down", shown=False)
    wait_until(lambda: two.serves() and two.has_service_address() and not one.serves())
    one.machine.run("ip", "link", "set", "cable0", "up", shown=False)
    wait_until(lambda: one.sealift("standby lease")["would_follow"] is True)
    # The box that signs with the new key is now the one that is kept current, and is believed by the one that serves.
    two.start("sealift-standby-sync.service")
    one.sealift("standby sync")
    one.start("sealift-standby-sync.service")
    for box in boxes.values():
        assert box.sealift("audit verify")["ok"] is True
    assert len(two.ledger.find(kind="standby.key-followed")) == 1
