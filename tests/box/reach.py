"""Who reaches what on the installed box: every user against every socket and every folder that is somebody's own."""

import json
from collections.abc import Mapping
from typing import Any

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
run = "/run/sealift/"
doors = sorted(n[:-5] for n in os.listdir(run) if n.endswith(".sock") and connects(run + n))
places = [p for p in sys.argv[1:] if reads(p)]
print(json.dumps({"doors": doors, "reads": places}))
"""
_PLACES = {
    "keys": "/etc/sealift/keys",
    "tls key": "/etc/sealift/tls/current/server.key",
    "ledger": "/var/lib/sealift/ledger/ledger.db",
    "promotions": "/var/lib/sealift/promoter/people.json",
    "state": "/var/lib/sealift/registry/state.db",
    "store": "/var/lib/sealift/store/objects/sha256",
    "trust": "/var/lib/sealift/trust/state.json",
    "logs": "/var/lib/sealift/logs",
}
EXPECTED: Mapping[str, tuple[set[str], set[str]]] = {
    "sealift-ledger": (set(), {"ledger"}),
    "sealift-promoter": ({"ledger-promoter"}, {"promotions"}),
    "sealift-gateway-test": ({"ledger-test", "engine-test"}, {"state"}),
    "sealift-gateway": ({"ledger-gateway", "engine-production", "review-gateway"}, {"state"}),
    "sealift-admin": (
        {"ledger-admin", "promoter-admin", "jobs-admin", "review-admin", "gateway-admin", "gateway-test-admin"},
        {"state"},
    ),
    "sealift-engine-test": (set(), {"store"}),
    "sealift-engine-prod": (set(), {"promotions", "store"}),
    "sealift-bench": ({"ledger-bench", "jobs-bench", "engine-test"}, {"state", "store"}),
    "sealift-switch": (
        {"ledger-switch", "jobs-switch", "engine-production", "promoter-judge"},
        {"promotions", "state"},
    ),
    "sealift-receive": ({"ledger-actions", "jobs-receive"}, {"state", "store", "trust"}),
    "sealift-metrics": ({"ledger-metrics"}, set()),
    "sealift-gpus": (set(), set()),
    "sealift-clock": (set(), set()),
    "sealift-clock-set": (set(), set()),
    "sealift-plan": (set(), set()),
    "sealift-try": (set(), set()),
    "sealift-try-web": (set(), set()),
    "sealift-media": (set(), set()),
    "sealift-export": (set(), set()),
    "sealift-network": (set(), set()),
    "sealift-announce": (set(), set()),
    "sealift-alerts": (set(), set()),
    "sealift-siem": ({"ledger-siem"}, set()),
    "sealift-review": (set(), set()),
    "sealift-standby": (set(), set()),
    "sealift-backup": (set(), set()),
    "www-data": ({"gateway", "gateway-test", "admin"}, {"tls key"}),
    "iris": ({"ledger-operator", "promoter-operator", "jobs-operator", "review-operator"}, set()),
    "nobody": (set(), set()),
}
# On a box that is watched, where the web server has one door more; Debian runs what watches as one user.
WATCHED: Mapping[str, tuple[set[str], set[str]]] = {
    "www-data": ({"gateway", "gateway-test", "admin", "metrics"}, {"tls key"}),
    "prometheus": (set(), set()),
    **{user: EXPECTED[user] for user in ("sealift-metrics", "sealift-alerts", "sealift-siem", "nobody")},
}


def who_reaches_what(run: Run) -> None:
    """Compare what every user reaches with what it should: no more and no less."""
    with run.stage.chapter("Who reaches what: every user against every socket and folder"):
        _compare(run, EXPECTED)


def who_watches_reaches(run: Run) -> None:
    """Compare the same of those who differ, or are there alone, where the box is watched."""
    with run.stage.chapter("Who reaches what where the box is watched"):
        _compare(run, WATCHED)


def _compare(run: Run, expected: Mapping[str, tuple[set[str], set[str]]]) -> None:
    told = _asked(run, "root")
    run.require("every place is there for root to read", set(told["reads"]) == set(_PLACES.values()), told)
    for user, (doors, places) in expected.items():
        told = _asked(run, user)
        found_doors = {door.rpartition("-")[0] if door.startswith("engine-") else door for door in told["doors"]}
        found_places = {name for name, path in _PLACES.items() if path in told["reads"]}
        print(f"   {user:<17} connects to {sorted(found_doors) or '-'}, reads {sorted(found_places) or '-'}")
        run.require(f"{user} reaches what it should", (found_doors, found_places) == (doors, places), told)


def _asked(run: Run, user: str) -> dict[str, Any]:
    words = ("runuser", "-u", user, "--", "python3", "-I", "-c", _PROBE, *_PLACES.values())
    found: dict[str, Any] = json.loads(run.machine.run(*words, shown=False).stdout)
    return found
