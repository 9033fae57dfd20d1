"""A standby as a site gets it: a second box from the same medium, introduced, kept current, asked after a cut cable.

Both are installed by the commands of the handbook (docs/operator/standby.md) and stand in the facility's network. A
workstation asks by the service address while the cable of the box that serves is cut: the same key and the same
question are answered by the other one, which has a ledger of its own.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.box import heldstill, looks
from tests.box.box import SITE_FILE, first_trust
from tests.box.load import Asked, load
from tests.box.machine import Machine, base_image
from tests.box.network import BOX_ADDRESS
from tests.box.operators import as_person, both_approve
from tests.box.prepared import Served
from tests.box.run import Run

OTHER_ADDRESS = "10.77.0.3"
SERVICE_ADDRESS = "10.77.0.100"
GOAL_SECONDS = 10.0
_NAMES = {"one": BOX_ADDRESS, "two": OTHER_ADDRESS}
_BY = ("--by", "Iris Mora", "--by", "Omar Haddad")
_UNITS = ("sealift-standby.socket", "sealift-standby.service")
_TIMER = "sealift-standby-sync.timer"
_AUTHORITY = "etc/sealift/tls/ca.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Two boxes in one run's facility: `one` served before, `two` is new."""

    one: Run
    two: Run

    @property
    def boxes(self) -> dict[str, Run]:
        """Both, by their names."""
        return {"one": self.one, "two": self.two}

    def bundle(self) -> Path:
        """Write the authorities of both boxes into one file, as a workstation that asks either has them."""
        place = self.one.out / "authorities.pem"
        place.write_bytes(b"".join((run.machine.root / _AUTHORITY).read_bytes() for run in self.boxes.values()))
        return place


def all_of_it(run: Run, served: Served, stack: ExitStack) -> None:
    """Make a pair of the box that serves and a bare one; cut a cable under callers."""
    run.facility.create()
    run.facility.lay_switch()
    run.facility.plug_into_switch(run.machine.leader, "one", _NAMES["one"])
    _let_two_people_change(run)
    second = Machine(
        root=run.out / "second",
        name=f"{run.machine.name}s",
        media={"/media/sealift-1": run.machine.media["/media/sealift-1"]},
        log=run.out / "second.log",
    )
    other = Run(out=run.out, stage=run.stage, machine=second, facility=run.facility, facts=run.facts)
    stack.callback(second.stop)
    _install_second(other, served)
    pair = Paired(one=run, two=other)
    _introduce(pair)
    _hold_lease(pair)
    _keep_current(pair, served)
    _cut(pair, served)
    # It holds the mirror of the other one.
    heldstill.units_of_a_pair_hold(other)


def _site_file(name: str) -> str:
    other = next(each for each in _NAMES if each != name)
    lines = (
        "[standby]",
        "lease = true",
        f'listen = "{_NAMES[name]}"',
        f'peer = "{other}"',
        f'peer_address = "{_NAMES[other]}"',
        f'service_address = "{SERVICE_ADDRESS}"',
        'interface = "facility0"',
    )
    text = SITE_FILE.replace(f'addresses = ["{BOX_ADDRESS}"]', f'addresses = ["{_NAMES[name]}", "{SERVICE_ADDRESS}"]')
    return text + "\n" + "\n".join(lines) + "\n"


def _let_two_people_change(run: Run) -> None:
    machine = run.machine
    with run.stage.chapter("Two people approve what a lease changes on the box that serves"):
        (machine.root / "etc/sealift/sealift.toml").write_text(_site_file("one"))
        plan = machine.result(*as_person("iris", "sealift", "install", "1", "--plan", "--as", "iris"))
        both_approve(machine, plan)
        done = machine.result(*as_person("omar", "sealift", "install", "1"))
        run.require("a box that serves takes the settings of a lease", done["changed"] is True, done)


def _install_second(other: Run, served: Served) -> None:
    with other.stage.chapter("A second bare box"):
        other.machine.create(base_image())
        other.machine.boot()
    first_trust(other, served.sealed(other))
    with other.stage.chapter("It is installed from the same medium, with a lease from the start"):
        (other.machine.root / "etc/sealift/sealift.toml").write_text(_site_file("two"))
        other.facility.plug_into_switch(other.machine.leader, "two", _NAMES["two"])
        done = other.machine.result("sealift", "install")
        other.require("a box that is to stand by is installed", done["host"] == "changed", done)


def _introduce(pair: Paired) -> None:
    with pair.one.stage.chapter("The two boxes are introduced: cards, codes that two people type, halves"):
        # Else it may take over in its own minute what is asked for below.
        pair.two.machine.run("systemctl", "stop", _TIMER)
        codes = {}
        for name, run in pair.boxes.items():
            card = run.machine.result("sealift", "standby", "card", "--name", name, "--to", f"/root/{name}.card")
            codes[name] = str(card["code"])
        _carry(pair, ".card")
        for name, role, other in (("one", "primary", "two"), ("two", "standby", "one")):
            words = ("standby", "pair", f"/root/{other}.card", "--to", f"/root/{name}.half", "--role", role, *_BY)
            pair.boxes[name].machine.result("sealift", *words, *("--code", codes[other]) * 2)
        _carry(pair, ".half")
        for name, other in (("one", "two"), ("two", "one")):
            pair.boxes[name].machine.result("sealift", "standby", "join", f"/root/{name}.half", f"/root/{other}.half")
        told = [len(run.machine.result("sealift", "standby", "status")["boxes"]) for run in pair.boxes.values()]
        pair.one.require("each box knows the other", told == [1, 1], told)


def _hold_lease(pair: Paired) -> None:
    one, two = pair.one.machine, pair.two.machine
    with pair.one.stage.chapter("The lease: people say which box serves first"):
        for machine in (one, two):
            machine.run("systemctl", "enable", "--now", *_UNITS)
        one.run("sealift", "standby", "take-over", *_BY, "--reason", "first start", "--other-is-off")
        _wait(lambda: _lease(pair.one)["serving"] is True, pair.one)
        _wait(lambda: _lease(pair.two)["would_follow"] is True, pair.two)
        pair.one.require("one box serves, the other would follow", _lease(pair.two)["serving"] is False)


def _keep_current(pair: Paired, served: Served) -> None:
    one, two = pair.one.machine, pair.two.machine
    with pair.one.stage.chapter("The second box takes over people, keys and what is in production"):
        one.run("systemctl", "start", "sealift-standby-sync.service")
        taken = two.result("sealift", "standby", "sync")
        two.run("systemctl", "start", _TIMER)
        two.run("systemctl", "restart", "sealift-gateway.service")
        is_whole = taken["taken"]["waits"] == "" and taken["grown"]["missing_releases"] == []
        pair.two.require("nothing waits on the standby", is_whole, taken)
        unit = f"sealift-engine-production@{served.digest[:12]}.service"
        _wait(lambda: looks.is_active(pair.two, unit), pair.two)
        drilled = two.run("sealift", "standby", "drill", may_fail=True)
        pair.two.require("a drill says that it could take over", drilled.returncode == 0, drilled.stdout)


def _cut(pair: Paired, served: Served) -> None:
    run = pair.one
    question: dict[str, Any] = {"address": SERVICE_ADDRESS, "authority": str(pair.bundle())}
    with run.stage.chapter("The cable of the box that serves is cut under callers: the other one answers"):
        before = run.workstation("ask", key=served.key, **question)
        # Who waits for a box that is gone gives up after two seconds, as a client with a limit does, and asks again.
        with load(run, served.key, **question, timeout=2) as asked:
            time.sleep(2)
            cut_at = time.time()
            run.facility.run("ip", "link", "set", "to-one", "down")
            asked.answered_since(cut_at + 1)
            time.sleep(2)
        good = [one for one in asked.asked if one.status == 200]
        last = max(one.ended for one in good if one.ended < cut_at)
        first = min(one.ended for one in good if one.began > cut_at)
        seconds = round(first - last, 2)
        print(f"   {len(good)} answers; {seconds} s between the last of the one box and the first of the other")
        run.facts["fail_over_seconds"] = seconds
        run.require("callers are answered by the other box within ten seconds", seconds < GOAL_SECONDS, seconds)
        after = run.workstation("ask", key=served.key, **question)
        proof = pair.two.machine.result("sealift", "prove", after["request_id"])
        run.require("an answer of the other box is proven there", proof["ok"] is True, proof)
        pair.two.machine.run("sealift", "prove", after["request_id"], "--out", "/root/proof.json", shown=False)
        checker = run.machine.media["/media/sealift-1"] / "release/check/verify.py"
        words = [sys.executable, "-I", str(checker), "proof", str(pair.two.machine.root / "root/proof.json")]
        elsewhere = subprocess.run(words, capture_output=True, text=True, check=False)
        print(elsewhere.stdout)
        run.require("and elsewhere, by its file alone", elsewhere.returncode == 0, elsewhere.stdout + elsewhere.stderr)
        run.require("by the same version", after["model_digest"] == before["model_digest"] == served.digest, after)
    with run.stage.chapter("The cable is whole again: the box that served stands by, and proves what it answered"):
        run.facility.run("ip", "link", "set", "to-one", "up")
        _wait(lambda: _lease(pair.one)["holder"] == "two", pair.one)
        run.require("one box serves after it", _lease(pair.one)["serving"] is False)
        proof = run.machine.result("sealift", "prove", before["request_id"])
        run.require("an answer of before is proven by the box that gave it", proof["ok"] is True, proof)
        _require_recorded_once(pair, good)


def _require_recorded_once(pair: Paired, good: list[Asked]) -> None:
    found = {name: _recorded(run) for name, run in pair.boxes.items()}
    places = {one.request: [name for name, known in found.items() if one.request in known] for one in good}
    wrong = {request: names for request, names in places.items() if len(names) != 1}
    pair.one.require("each answer is recorded by the one box that gave it", not wrong, wrong)
    both = {name for names in places.values() for name in names}
    pair.one.require("both boxes answered", both == {"one", "two"}, both)


def _recorded(run: Run) -> str:
    return str(run.machine.result("sealift", "audit", "list", "--kind", "request.outcome", "--limit", "1000"))


def _lease(run: Run) -> dict[str, Any]:
    return dict(run.machine.result("sealift", "standby", "lease"))


def _wait(holds: Callable[[], bool], run: Run) -> None:
    looks.wait(holds, lambda: looks.journal(run, "sealift-standby"))


def _carry(pair: Paired, ending: str) -> None:
    for name, run in pair.boxes.items():
        for other in pair.boxes.values():
            if other is not run:
                shutil.copy(run.machine.root / f"root/{name}{ending}", other.machine.root / "root")
