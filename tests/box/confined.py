"""What each running unit can reach, asked from inside: its mounts, its user, its groups, its network, no capability.

The matrix of `reach` asks as users; a unit has groups that its user has not, and sees less of the files. Here every
place is tried for reading and for writing, every door for connecting, every other unit's secrets for reading.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.box.machine import BoxError, Machine
from tests.box.run import Run

_PROBE = """
import json, os, socket, sys
def connects(path):
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
        except OSError:
            return False
    return True
def reads(path):
    try:
        return bool(os.listdir(path)) if os.path.isdir(path) else bool(open(path, "rb").read(1))
    except OSError:
        return False
def writes(folder):
    path = folder + "/.probe"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return False
    os.unlink(path)
    return True
asked = json.loads(sys.argv[1])
print(json.dumps({
    "doors": sorted(name for name, path in asked["doors"].items() if connects(path)),
    "reads": sorted(name for name, path in asked["reads"].items() if reads(path)),
    "writes": sorted(name for name, path in asked["writes"].items() if writes(path)),
    "secrets": sorted(path for path in asked["secrets"] if reads(path)),
    "links": sorted(name for _, name in socket.if_nameindex()),
}))
"""
_READS = {
    "keys": "/etc/sealift/keys",
    "tls key": "/etc/sealift/tls/ca.key",
    "ledger": "/var/lib/sealift/ledger/ledger.db",
    "promotions": "/var/lib/sealift/promoter/people.json",
    "state": "/var/lib/sealift/registry/state.db",
    "store": "/var/lib/sealift/store/objects/sha256",
    "trust": "/var/lib/sealift/trust/state.json",
}
_STATE = (
    "ledger",
    "promoter",
    "gateway",
    "gateway-test",
    "admin",
    "review",
    "alerts",
    "registry",
    "spool",
    "store",
    "trust",
    "receipts",
    "plans",
    "proofs",
    "reports",
    "scrub",
    "standby",
    "mirrors",
)
_WRITES = {name: f"/var/lib/sealift/{name}" for name in _STATE} | {
    "etc": "/etc/sealift",
    "pinned root": "/etc/sealift/trust",
    "engines": "/opt/sealift/engines",
    "releases": "/opt/sealift/releases",
    "run": "/run/sealift",
    "lease": "/run/sealift/lease",
    "arrived": "/run/sealift/arrived",
    "exporting": "/run/sealift/exporting",
    "units": "/etc/systemd/system",
    "programs": "/usr/bin",
}
_PRODUCTION, _TEST = "sealift-engine-production@{}.service", "sealift-engine-test@{}.service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which places a unit is asked about, by their names: for reading, for writing, for connecting beside our doors."""

    reads: Mapping[str, str]
    writes: Mapping[str, str]
    calls: Mapping[str, str] = field(default_factory=dict)


_OURS = Asked(reads=_READS, writes=_WRITES)
# Of what Debian brings, besides: the key that the web server shows, and by what units are started.
_OTHERS = Asked(
    reads=_READS | {"server key": "/etc/sealift/tls/current/server.key"},
    writes=_WRITES | {"units of a boot": "/run/systemd/system"},
    calls={"systemd": "/run/systemd/private", "bus": "/run/dbus/system_bus_socket"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class May:
    """What one unit reaches, by names; `doors` None means every one, which is what root as owner of the sockets can."""

    doors: frozenset[str] | None = frozenset()
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    secrets: frozenset[str] = field(default_factory=frozenset)
    has_network: bool = False


def of(*names: str) -> frozenset[str]:
    """Return names as a set."""
    return frozenset(names)


_EXPECTED = {
    "sealift-ledger.service": May(
        reads=of("ledger"), writes=of("ledger", "spool"), secrets=of("ledger-checkpoint", "ledger-mldsa")
    ),
    "sealift-promoter.service": May(
        doors=of("ledger-promoter"), reads=of("promotions"), writes=of("promoter"), secrets=of()
    ),
    # Root without a capability: what is root's by owner, and no more; of /run the one folder that its file names.
    "sealift-jobs.service": May(
        doors=None, reads=of("promotions", "state", "store", "tls key"), writes=of("engines", "exporting")
    ),
    # Its group reaches the door of media too, which refuses this user by its number.
    "sealift-review.service": May(
        doors=of("ledger-actions", "jobs-receive"), writes=of("review"), secrets=of("retention")
    ),
    "sealift-gateway.service": May(
        doors=of("ledger-gateway", "engine-production", "review-gateway"),
        reads=of("state"),
        writes=of("gateway"),
        secrets=of("api-key-pepper", "identity-hmac", "content-hmac", "phi-map"),
    ),
    "sealift-gateway-test.service": May(
        doors=of("ledger-test", "engine-test"),
        reads=of("state"),
        writes=of("gateway-test"),
        secrets=of("test-api-key-pepper", "test-identity-hmac", "test-content-hmac", "test-phi-map"),
    ),
    "sealift-admin.service": May(
        doors=of(
            *("ledger-admin", "promoter-admin", "jobs-admin", "review-admin", "gateway-admin", "gateway-test-admin")
        ),
        reads=of("state"),
        writes=of("admin", "registry"),
        secrets=of("session"),
    ),
    # Its groups reach the doors of actions and of media too, which refuse this user by its number.
    "sealift-metrics.service": May(
        doors=of("ledger-metrics", "ledger-actions", "jobs-receive"), reads=of("state", "store", "trust")
    ),
    "sealift-alerts.service": May(writes=of("alerts"), has_network=True),
    _PRODUCTION: May(reads=of("promotions", "store")),
    _TEST: May(reads=of("store")),
}
# The bus is anybody's on a Debian; who may say what there is the bus' own to judge, and no watcher's filter of system
# calls, which is not asked here, lets it open such a socket.
_WATCHER = May(doors=of("bus"), has_network=True)
_WEB_SERVER = May(doors=of("gateway", "gateway-test", "admin", "metrics"), reads=of("server key"), has_network=True)
# On a box that is watched. Master and workers of the web server are the same user.
_EXPECTED_OF_OTHERS = {
    "nginx.service": _WEB_SERVER,
    "nginx.service worker": _WEB_SERVER,
    "prometheus.service": _WATCHER,
    "prometheus-alertmanager.service": _WATCHER,
    "prometheus-node-exporter.service": _WATCHER,
}
# To open low ports (ansible/roles/nginx).
_WEB_CAPABILITIES = 1 << 10


def units_hold(run: Run, digest: str) -> None:
    """Ask from inside every unit that runs what it reaches: no more and no less than it should."""
    wrong: list[object] = []
    with run.stage.chapter("What each unit reaches, asked from inside it"):
        for template, may in _EXPECTED.items():
            name = template.format(digest[:12])
            run.machine.run("systemctl", "start", name, shown=False)
            wrong += differences(run.machine, name, may)
        run.require("every unit reaches what it should, from inside", not wrong, wrong)


def others_hold(run: Run) -> None:
    """Ask the same of the web server and of what watches the box, and how the kernel holds them."""
    wrong: list[object] = []
    with run.stage.chapter("What the web server and the watchers reach, asked from inside them"):
        for name, may in _EXPECTED_OF_OTHERS.items():
            pid = _pid_of(run.machine, name)
            wrong += differences(run.machine, name, may, pid=pid, asked=_OTHERS)
        run.require("web server and watchers reach what they should, from inside", not wrong, wrong)
        found = {name: _held(run.machine, _pid_of(run.machine, name)) for name in _EXPECTED_OF_OTHERS}
        wanted = {name: _WEB_CAPABILITIES if name.startswith("nginx") else 0 for name in found}
        wrong = [(name, held) for name, held in found.items() if held != _as_held(wanted[name])]
        run.require("none has a privilege beyond its unit's, or a core file", not wrong, wrong)


def differences(
    machine: Machine, name: str, may: May, *, pid: int = 0, asked: Asked = _OURS
) -> list[tuple[str, str, list[str]]]:
    """Ask from inside a unit that runs what it reaches, and print that; return what differs from what it may.

    Args:
        machine: The box.
        name: The unit's.
        may: What it may reach.
        pid: Which process of it is asked; by itself its first one.
        asked: What about.
    """
    listed = machine.run("sh", "-c", "cd /run/sealift && ls -d *.sock", shown=False).stdout.split()
    doors = {door.removesuffix(".sock"): f"/run/sealift/{door}" for door in listed}
    secrets = machine.run("sh", "-c", "ls -d /run/credentials/sealift-*/* || true", shown=False).stdout.split()
    told = _inside(machine, pid or _main_pid(machine, name), doors=doors, secrets=secrets, asked=asked)
    found = {key: set(told[key]) for key in ("doors", "reads", "writes", "secrets", "links")}
    found["doors"] = {_plain(door) for door in found["doors"]}
    wanted = {
        "doors": {_plain(door) for door in doors} if may.doors is None else set(may.doors),
        "reads": set(may.reads),
        "writes": set(may.writes),
        "secrets": {f"/run/credentials/{name}/{secret}" for secret in may.secrets},
        "links": found["links"] if may.has_network else {"lo"},
    }
    print(f"   {name.removeprefix('sealift-')[:22]:<23} {', '.join(sorted(found['doors'])) or '-'}")
    print(f"   {'':<23} reads {told['reads']}, writes {told['writes']}")
    return [(name, key, sorted(found[key] ^ wanted[key])) for key in found if found[key] != wanted[key]]


def processes_held(run: Run, digest: str) -> None:
    """Read from the kernel how the units' processes are held."""
    machine = run.machine
    engines = [name.format(digest[:12]) for name in (_TEST, _PRODUCTION)]
    with run.stage.chapter("How the kernel holds each unit's processes"):
        wrong: list[object] = []
        for name in (one.format(digest[:12]) for one in _EXPECTED):
            held = _held(machine, _main_pid(machine, name))
            if held != _as_held(0):
                wrong.append((name, held))
        run.require("no process has privileges, capabilities or a core file", not wrong, wrong)
        scores = [
            int(machine.run("cat", f"/proc/{_main_pid(machine, name)}/oom_score_adj", shown=False).stdout)
            for name in (*engines, "sealift-gateway.service", "sealift-ledger.service")
        ]
        # A container may not put a service below 0, so what is among the rest is shown by tests/host alone.
        in_order = scores == sorted(scores, reverse=True) and scores[0] > scores[1] > max(scores[2:])
        run.require("when memory is short engines go first", in_order, scores)
        for name in engines:
            master = _main_pid(machine, name)
            worker = worker_of(machine, master)
            filters = [int(machine.status_of(pid)["Seccomp_filters"]) for pid in (master, worker)]
            cores = machine.status_of(worker)["Cpus_allowed_list"]
            print(f"   {name[8:30]:<23} filters {filters}, cores {cores}")
            run.require("a loaded engine has put on a filter of its own", filters[1] == filters[0] + 1, filters)
            memories = [f"/proc/{pid}/mem" for pid in (master, worker)]
            owners = machine.run("stat", "-c", "%U", *memories, shown=False).stdout.split()
            run.require("no process of its user reaches an engine's memory", owners == ["root", "root"], owners)
            run.require("an engine leaves a core", not cores.startswith("0"), cores)
        worker = worker_of(machine, _main_pid(machine, "sealift-gateway.service"))
        asked = f"grep -h Cpus_allowed_list /proc/{worker}/task/*/status"
        threads = [line.split()[1] for line in machine.run("sh", "-c", asked, shown=False).stdout.splitlines()]
        print(f"   {'gateway':<23} {len(threads)} threads, cores {sorted(set(threads))}")
        run.require("a gateway's threads are on the core that engines leave", set(threads) == {"0"}, threads)


def hung_service_comes_back(run: Run) -> None:
    """Stop a service's process in its tracks: systemd kills it for its silence and starts it again."""
    machine, unit = run.machine, "sealift-admin.service"
    with run.stage.chapter("A service that hangs is killed and comes back"):
        folder = machine.root / "etc/systemd/system" / f"{unit}.d"
        folder.mkdir(parents=True)
        (folder / "probe.conf").write_text("[Service]\nWatchdogSec=6\n")
        machine.run("systemctl", "daemon-reload", shown=False)
        machine.run("systemctl", "restart", unit)
        first = _main_pid(machine, unit)
        machine.run("sh", "-c", f"kill -STOP {first}")
        deadline = time.monotonic() + 90
        while (now := _main_pid(machine, unit, may_be_away=True)) in {0, first} and time.monotonic() < deadline:
            time.sleep(0.5)
        told = machine.run("journalctl", "-u", unit, "-n", "40", "-o", "cat", shown=False).stdout
        run.require("a hung service is killed for its silence", "Watchdog timeout" in told, told)
        run.require("and comes back by itself", now not in {0, first}, now)
        (folder / "probe.conf").unlink()
        folder.rmdir()
        machine.run("systemctl", "daemon-reload", shown=False)
        machine.run("systemctl", "restart", unit)


def worker_of(machine: Machine, master: int) -> int:
    """Return the process that a unit's first one began to do its work."""
    return int(machine.run("cat", f"/proc/{master}/task/{master}/children", shown=False).stdout.split()[0])


def _held(machine: Machine, pid: int) -> tuple[object, ...]:
    """Return how the kernel holds a process: privileges, filter, capabilities, core file, and what one would hold."""
    status = machine.status_of(pid)
    core = machine.run("grep", "Max core", f"/proc/{pid}/limits", shown=False).stdout.split()[4:6]
    dumped = int(machine.run("cat", f"/proc/{pid}/coredump_filter", shown=False).stdout, 16)
    return (status["NoNewPrivs"], status["Seccomp"], int(status["CapBnd"], 16), core, dumped)


def _as_held(capabilities: int) -> tuple[object, ...]:
    return ("1", "2", capabilities, ["0", "0"], 0)


def _inside(
    machine: Machine, pid: int, *, doors: Mapping[str, str], secrets: list[str], asked: Asked
) -> dict[str, Any]:
    status = machine.status_of(pid)
    groups, bounds = status["Groups"].split(), int(status["CapBnd"], 16)
    kept = "".join(f",+cap_{number}" for number in range(bounds.bit_length()) if bounds >> number & 1)
    places = {"doors": {**doors, **asked.calls}, "reads": dict(asked.reads), "writes": dict(asked.writes)}
    question = json.dumps({**places, "secrets": secrets})
    words = [
        *("nsenter", "-t", str(pid), "-m", "-n", "setpriv", "--reuid", status["Uid"].split()[0]),
        *("--regid", status["Gid"].split()[0], *(("--groups", ",".join(groups)) if groups else ("--clear-groups",))),
        *("--inh-caps=-all", f"--bounding-set=-all{kept}", "--no-new-privs", "python3", "-I", "-c", _PROBE, question),
    ]
    found: dict[str, Any] = json.loads(machine.run(*words, shown=False).stdout)
    return found


def _plain(door: str) -> str:
    """Return a door's name without the version that an engine's carries."""
    return door.rpartition("-")[0] if door.startswith("engine-") else door


def _pid_of(machine: Machine, name: str) -> int:
    """Return the first process of a unit, or where its name says so a worker of that one."""
    unit, _, is_worker = name.partition(" ")
    pid = _main_pid(machine, unit)
    return worker_of(machine, pid) if is_worker else pid


def _main_pid(machine: Machine, unit: str, *, may_be_away: bool = False) -> int:
    pid = int(machine.run("systemctl", "show", "-P", "MainPID", unit, shown=False).stdout)
    if not pid and not may_be_away:
        message = f"{unit} does not run"
        raise BoxError(message)
    return pid
