"""A standby as a site gets it: a second box from the same medium, introduced, kept current, asked after a cut cable.

Both are installed by the commands of the handbook (docs/operator/standby.md) and stand in the facility's network. A
workstation asks by the service address while the cable of the box that serves is cut: the same key and the same
question are answered by the other one, which has a ledger of its own.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.box import looks
from tests.box.box import SITE_FILE, first_trust
from tests.box.load import Asked, load
from tests.box.machine import Machine, base_image
from tests.box.network import BOX_ADDRESS
from tests.box.operators import as_person, both_approve
from tests.box.prepared import Served
from tests.box.run import Run

OTHER_ADDRESS = "10.77.0.3"
WITNESS_ADDRESS = "10.77.0.4"
SERVICE_ADDRESS = "10.77.0.100"
GOAL_SECONDS = 10.0
NAMES = {"one": BOX_ADDRESS, "two": OTHER_ADDRESS}
BY = ("--by", "Iris Mora", "--by", "Omar Haddad")
UNITS = ("sealift-standby.socket", "sealift-standby.service")
TIMER = "sealift-standby-sync.timer"
SITE_FILE_PLACE = "etc/sealift/sealift.toml"
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


def all_of_it(run: Run, served: Served, stack: ExitStack) -> Paired:
    """Make a pair of the box that serves and a bare one; cut a cable under callers. Afterwards `two` serves."""
    run.facility.create()
    run.facility.lay_switch()
    run.facility.plug_into_switch(run.machine.leader, "one", NAMES["one"])
    _let_two_people_change(run)
    other = another(run, "second", stack)
    install_bare(other, served, "two", OTHER_ADDRESS, _site_file("two"))
    pair = Paired(one=run, two=other)
    _introduce(pair)
    _hold_lease(pair)
    _keep_current(pair, served)
    _cut(pair, served)
    return pair


def another(run: Run, name: str, stack: ExitStack) -> Run:
    """Return a run of one more machine in the same facility, with the medium of the first one; it is not made yet."""
    machine = Machine(
        root=run.out / name,
        name=f"{run.machine.name}{name[0]}",
        media={"/media/sealift-1": run.machine.media["/media/sealift-1"]},
        log=run.out / f"{name}.log",
    )
    stack.callback(machine.stop)
    return Run(out=run.out, stage=run.stage, machine=machine, facility=run.facility, facts=run.facts)


def _site_file(name: str) -> str:
    other = next(each for each in NAMES if each != name)
    lines = (
        "[standby]",
        "lease = true",
        f'listen = "{NAMES[name]}"',
        f'peer = "{other}"',
        f'peer_address = "{NAMES[other]}"',
        f'service_address = "{SERVICE_ADDRESS}"',
        'interface = "facility0"',
        # Nobody is there yet: an install opens the way, and the witness is named when it is.
        f'witness_address = "{WITNESS_ADDRESS}"',
    )
    text = SITE_FILE.replace(f'addresses = ["{BOX_ADDRESS}"]', f'addresses = ["{NAMES[name]}", "{SERVICE_ADDRESS}"]')
    return text + "\n" + "\n".join(lines) + "\n"


def _let_two_people_change(run: Run) -> None:
    machine = run.machine
    with run.stage.chapter("Two people approve what a lease changes on the box that serves"):
        (machine.root / SITE_FILE_PLACE).write_text(_site_file("one"))
        plan = machine.result(*as_person("iris", "sealift", "install", "1", "--plan", "--as", "iris"))
        both_approve(machine, plan)
        done = machine.result(*as_person("omar", "sealift", "install", "1"))
        run.require("a box that serves takes the settings of a lease", done["changed"] is True, done)


def install_bare(run: Run, served: Served, name: str, address: str, text: str) -> None:
    """Make a bare machine, install it from the same medium with this site file, and plug it into the switch."""
    with run.stage.chapter(f"A further bare box: {name}"):
        run.machine.create(base_image())
        run.machine.boot()
    first_trust(run, served.sealed(run))
    with run.stage.chapter(f"It is installed from the same medium, to be {name} from the start"):
        (run.machine.root / SITE_FILE_PLACE).write_text(text)
        run.facility.plug_into_switch(run.machine.leader, name, address)
        done = run.machine.result("sealift", "install")
        run.require("a box that is to stand by is installed", done["host"] == "changed", done)


def introduce(boxes: Mapping[str, Run], roles: tuple[str, str]) -> None:
    """Introduce two boxes to each other as people do: cards, codes that two of them type at each box, halves."""
    (one, two), codes = boxes, dict[str, str]()
    for name, run in boxes.items():
        card = run.machine.result("sealift", "standby", "card", "--name", name, "--to", f"/root/{name}.card")
        codes[name] = str(card["code"])
    _carry(boxes, ".card")
    for name, other, role in ((one, two, roles[0]), (two, one, roles[1])):
        words = ("standby", "pair", f"/root/{other}.card", "--to", f"/root/{name}.half", "--role", role, *BY)
        boxes[name].machine.result("sealift", *words, *("--code", codes[other]) * 2)
    _carry(boxes, ".half")
    for name, other in ((one, two), (two, one)):
        boxes[name].machine.result("sealift", "standby", "join", f"/root/{name}.half", f"/root/{other}.half")


def _introduce(pair: Paired) -> None:
    with pair.one.stage.chapter("The two boxes are introduced: cards, codes that two people type, halves"):
        # Else it may take over in its own minute what is asked for below.
        pair.two.machine.run("systemctl", "stop", TIMER)
        introduce(pair.boxes, ("primary", "standby"))
        told = [len(run.machine.result("sealift", "standby", "status")["boxes"]) for run in pair.boxes.values()]
        pair.one.require("each box knows the other", told == [1, 1], told)


def _hold_lease(pair: Paired) -> None:
    one, two = pair.one.machine, pair.two.machine
    with pair.one.stage.chapter("The lease: people say which box serves first"):
        for machine in (one, two):
            machine.run("systemctl", "enable", "--now", *UNITS)
        one.run("sealift", "standby", "take-over", *BY, "--reason", "first start", "--other-is-off")
        wait(lambda: lease(pair.one).get("serving") is True, pair.one)
        wait(lambda: lease(pair.two).get("would_follow") is True, pair.two)
        pair.one.require("one box serves, the other would follow", lease(pair.two)["serving"] is False)


def _keep_current(pair: Paired, served: Served) -> None:
    one, two = pair.one.machine, pair.two.machine
    with pair.one.stage.chapter("The second box takes over people, keys and what is in production"):
        one.run("systemctl", "start", "sealift-standby-sync.service")
        taken = two.result("sealift", "standby", "sync")
        two.run("systemctl", "start", TIMER)
        two.run("systemctl", "restart", "sealift-gateway.service")
        is_whole = taken["taken"]["waits"] == "" and taken["grown"]["missing_releases"] == []
        pair.two.require("nothing waits on the standby", is_whole, taken)
        unit = f"sealift-engine-production@{served.digest[:12]}.service"
        wait(lambda: looks.is_active(pair.two, unit), pair.two)
        drilled = two.run("sealift", "standby", "drill", may_fail=True)
        pair.two.require("a drill says that it could take over", drilled.returncode == 0, drilled.stdout)


def _cut(pair: Paired, served: Served) -> None:
    run = pair.one
    question = asking(pair)
    with run.stage.chapter("The cable of the box that serves is cut under callers: the other one answers"):
        before = run.workstation("ask", key=served.key, **question)
        run.machine.result("sealift", "standby", "sync")  # what one sends the other one takes with its own
        pair.two.machine.result("sealift", "standby", "sync")
        good, seconds = moved_by(pair, served, "two", lambda: run.facility.cut("one"))
        run.facts["fail_over_seconds"] = seconds
        after = run.workstation("ask", key=served.key, **question)
        proof = pair.two.machine.result("sealift", "prove", after["request_id"])
        run.require("an answer of the other box is proven there", proof["ok"] is True, proof)
        pair.two.machine.run("sealift", "prove", after["request_id"], "--out", "/root/proof.json", shown=False)
        checker = run.machine.media["/media/sealift-1"] / "release/check/verify.py"
        words = [sys.executable, "-I", str(checker), "proof", str(pair.two.machine.root / "root/proof.json")]
        elsewhere = subprocess.run(words, capture_output=True, text=True, check=False)
        print(elsewhere.stdout)
        run.require("and elsewhere, by its file alone", elsewhere.returncode == 0, elsewhere.stdout + elsewhere.stderr)
        _proven_without_the_box_that_answered(pair, checker, before["request_id"])
        run.require("by the same version", after["model_digest"] == before["model_digest"] == served.digest, after)
    with run.stage.chapter("The cable is whole again: the box that served stands by, and proves what it answered"):
        run.facility.mend("one")
        wait(lambda: lease(pair.one).get("holder") == "two", pair.one)
        run.require("one box serves after it", lease(pair.one)["serving"] is False)
        proof = run.machine.result("sealift", "prove", before["request_id"])
        run.require("an answer of before is proven by the box that gave it", proof["ok"] is True, proof)
        answered_by(pair, good, {"one", "two"})


def _proven_without_the_box_that_answered(pair: Paired, checker: Path, request_id: str) -> None:
    """Prove what the box that is out of reach answered last, and hand over its records, from its mirror alone."""
    run, two = pair.one, pair.two.machine
    keys = [(each.machine.root / "etc/sealift/ledger.pub").read_text().strip() for each in (pair.one, pair.two)]
    with_keys = [word for key in keys for word in ("--key", key)]
    print(two.run("sealift", "prove", request_id, "--out", "/root/lost.json", shown=False).stdout)
    two.run("sealift", "audit", "export", "/root/lost", "--of", "one")
    for words in (["proof", two.root / "root/lost.json"], ["ledger", "--unrecorded", two.root / "root/lost"]):
        checked = subprocess.run(
            [sys.executable, "-I", str(checker), *map(str, words), *with_keys],
            capture_output=True,
            text=True,
            check=False,
        )
        print(checked.stdout)
        holds = checked.returncode == 0 and "HOLDS" in checked.stdout and "taken         the first" in checked.stdout
        what = "an answer" if words[0] == "proof" else "the ledger"
        run.require(f"{what} of the box that is lost is proven from its mirror", holds, checked.stdout + checked.stderr)


def asking(pair: Paired) -> dict[str, Any]:
    """Return how a workstation asks whichever box has the service address."""
    return {"address": SERVICE_ADDRESS, "authority": str(pair.bundle())}


def moved_by(pair: Paired, served: Served, to: str, breaking: Callable[[], object]) -> tuple[list[Asked], float]:
    """Break something under callers who ask without a pause, and wait until the other box answers them.

    Returns the good answers, and the seconds from the last one before to the first one after. Who waits for a box that
    is gone gives up after two seconds, as a client with a limit does, and asks again.
    """
    run = pair.one
    with load(run, served.key, **asking(pair), timeout=2) as asked:
        time.sleep(2)
        at = time.time()
        breaking()
        wait(lambda: lease(pair.boxes[to]).get("serving") is True, pair.boxes[to])
        asked.answered_since(time.time())
        time.sleep(2)
    good = [one for one in asked.asked if one.status == 200]
    ended = sorted(one.ended for one in good)
    seconds = round(max(after - before for before, after in pairwise(ended) if after > at), 2)
    print(f"   {len(good)} answers; {seconds} s between the last of the one box and the first of the other")
    run.require("callers are answered by the other box within ten seconds", seconds < GOAL_SECONDS, seconds)
    return good, seconds


def answered_by(pair: Paired, good: list[Asked], names: set[str] | None = None) -> dict[str, str]:
    """Hold that each answer is recorded by exactly one box, and that these gave them, where any are named.

    Returns which gave it, by request.
    """
    found = {name: _recorded(run) for name, run in pair.boxes.items()}
    places = {one.request: [name for name, known in found.items() if one.request in known] for one in good}
    wrong = {request: names for request, names in places.items() if len(names) != 1}
    pair.one.require("each answer is recorded by the one box that gave it", not wrong, wrong)
    gave = {name for found in places.values() for name in found}
    if names is not None:
        pair.one.require(f"answers came from {' and '.join(sorted(names))}", gave == names, gave)
    return {request: names[0] for request, names in places.items()}


def _recorded(run: Run) -> str:
    return str(run.machine.result("sealift", "audit", "list", "--kind", "request.outcome", "--limit", "1000"))


def lease(run: Run) -> dict[str, Any]:
    """Return what keeps the lease there; nothing while that does not answer."""
    told = run.machine.run("sealift", "standby", "lease", "--json", shown=False, may_fail=True)
    return dict(json.loads(told.stdout)) if told.returncode == 0 else {}


def wait(holds: Callable[[], bool], run: Run) -> None:
    """Wait until something holds of the lease."""
    looks.wait(holds, lambda: looks.journal(run, "sealift-standby"))


def _carry(boxes: Mapping[str, Run], ending: str) -> None:
    for name, run in boxes.items():
        for other in boxes.values():
            if other is not run:
                shutil.copy(run.machine.root / f"root/{name}{ending}", other.machine.root / "root")
