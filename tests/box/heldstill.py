"""What the units reach that run now and then: each is started with a program that does nothing.

Its sandbox, user, groups and credentials are those of the unit; only what it runs, and when, is another's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.box.confined import May, differences, of
from tests.box.machine import Machine
from tests.box.run import Run

_STILL = """[Unit]
ConditionPathExists=
[Service]
Type=exec
ExecCondition=
ExecStartPre=
ExecStart=
ExecStart=/usr/bin/sleep 120
ExecStartPost=
ExecStopPost=
WatchdogSec=0
Restart=no
"""
_RUNS = "active\n"
# Both doors open for the group of those who receive; they refuse each user but their own by its number.
_RECEIVERS = of("jobs-receive", "ledger-actions")
_SWITCHES = May(
    doors=of("engine-production", "jobs-switch", "ledger-switch", "promoter-judge"),
    reads=of("promotions", "state"),
    writes=of("registry"),
)
_BACKUP = May(
    doors=_RECEIVERS,
    reads=of("state", "store", "trust"),
    secrets=of("api-key-pepper", "content-hmac", "identity-hmac", "passwords"),
)
_EXPECTED: Mapping[str, May] = {
    "sealift-announce.service": May(has_network=True),
    "sealift-backup.service": _BACKUP,
    "sealift-canary.service": _SWITCHES,
    "sealift-clock.service": May(doors=_RECEIVERS, reads=of("promotions", "trust")),
    "sealift-drill.service": _BACKUP,
    "sealift-evidence@probe.service": May(doors=_RECEIVERS, reads=of("state", "store"), writes=of("receipts")),
    # The medium, the one place that it may write to, is mounted and made its own by what root runs before it; without
    # that the folder is root's.
    "sealift-export@probe.service": May(doors=_RECEIVERS),
    "sealift-gpus.service": May(),
    "sealift-inspect@probe.service": May(doors=_RECEIVERS, reads=of("state")),
    "sealift-network.service": May(doors=_RECEIVERS, has_network=True),
    "sealift-plan@probe.service": May(reads=of("store"), writes=of("plans")),
    "sealift-prove@probe.service": May(
        doors=_RECEIVERS, reads=of("promotions", "state", "store", "trust"), writes=of("proofs")
    ),
    "sealift-receive@probe.service": May(
        doors=_RECEIVERS,
        reads=of("state", "store", "trust"),
        writes=of("receipts", "registry", "spool", "store", "trust"),
    ),
    "sealift-report@probe.service": May(doors=_RECEIVERS, reads=of("state", "store", "trust"), writes=of("reports")),
    # Root without a capability has every door, as the owner of the sockets; what it may not see is hidden from it.
    "sealift-retention.service": May(doors=None, reads=of("keys"), writes=of("exporting", "run", "units")),
    "sealift-scrub.service": May(doors=_RECEIVERS, reads=of("state", "store", "trust"), writes=of("scrub", "spool")),
    "sealift-siem.service": May(doors=of("ledger-siem"), has_network=True),
    "sealift-switch@probe.service": _SWITCHES,
    "sealift-tls@probe.service": May(
        doors=None, reads=of("state", "tls key", "trust"), writes=of("spool"), has_network=True
    ),
    "sealift-try-nftables@probe.service": May(),
    "sealift-try-nginx@probe.service": May(secrets=of("server.key")),
    "sealift-validate@probe.service": May(
        doors=of("engine-test", "jobs-bench", "ledger-bench"), reads=of("state", "store"), writes=of("registry")
    ),
}
# On a box of a pair, where two more have work.
_OF_A_PAIR: Mapping[str, May] = {
    # Its groups reach the door of media too, which refuses this user by its number; the permit is its own to write.
    "sealift-standby.service": May(
        doors=_RECEIVERS | of("announce"),
        writes=of("lease", "standby"),
        secrets=of("box-channel.pem"),
        has_network=True,
    ),
    # Root without a capability, as above.
    "sealift-standby-sync.service": May(
        doors=None,
        reads=of("state", "store"),
        writes=of("exporting", "mirrors", "registry", "run"),
        secrets=of("api-key-pepper", "box-channel.pem", "box-sealing.x25519", "ledger-checkpoint"),
        has_network=True,
    ),
}


def units_hold(run: Run) -> None:
    """Ask from inside units that do nothing just now what they reach: no more and no less than they should."""
    with run.stage.chapter("What each unit reaches that runs now and then, asked from inside it"):
        wrong = _asked(run.machine, _EXPECTED)
        run.require("every unit that runs now and then reaches what it should", not wrong, wrong)


def units_of_a_pair_hold(run: Run) -> None:
    """Ask the same of the units that have work on a box of a pair alone."""
    with run.stage.chapter("What each unit of a pair reaches, asked from inside it"):
        wrong = _asked(run.machine, _OF_A_PAIR)
        run.require("every unit of a pair reaches what it should", not wrong, wrong)


def _asked(machine: Machine, expected: Mapping[str, May]) -> list[object]:
    wrong: list[object] = []
    with _held_still(machine, tuple(expected)):
        for name, may in expected.items():
            machine.run("systemctl", "restart", name, shown=False)
            wrong += differences(machine, name, may)
            machine.run("systemctl", "stop", name, shown=False)
    return wrong


@contextmanager
def _held_still(machine: Machine, names: Sequence[str]) -> Iterator[None]:
    ran = [
        name
        for name in names
        if machine.run("systemctl", "is-active", name, shown=False, may_fail=True).stdout == _RUNS
    ]
    folders = " ".join(f"/run/systemd/system/{name}.d" for name in names)
    script = f"for folder in {folders}; do mkdir -p $folder; cp /run/still.conf $folder/zz-still.conf; done"
    machine.run("sh", "-c", "cat > /run/still.conf", feed=_STILL, shown=False)
    machine.run("sh", "-c", f"{script}; systemctl daemon-reload", shown=False)
    try:
        yield
    finally:
        machine.run("sh", "-c", f"rm -r {folders} /run/still.conf; systemctl daemon-reload", shown=False)
        for name in ran:
            machine.run("systemctl", "restart", name, shown=False)
