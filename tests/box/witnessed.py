"""A witness as a site adds it to two boxes that serve: a third box, named by both, which grants the lease.

Installed, introduced and named by the commands of docs/operator/standby.md, the standby first. Then cables are cut so
that it matters who reaches the witness, and the witness itself goes away; callers ask by the service address meanwhile.
"""

import time
from contextlib import ExitStack
from pathlib import Path

from appliance.actions.standby.forked import IMPORTED
from appliance.actions.standby.keeping import EXPORTED
from examples.demo.people import password_of
from tests.box import kills, looks
from tests.box.box import SITE_FILE
from tests.box.load import load
from tests.box.network import BOX_ADDRESS
from tests.box.paired import (
    NAMES,
    OTHER_ADDRESS,
    SERVICE_ADDRESS,
    SITE_FILE_PLACE,
    TIMER,
    UNITS,
    WITNESS_ADDRESS,
    Paired,
    another,
    answered_by,
    asking,
    install_bare,
    introduce,
    lease,
    moved_by,
    wait,
)
from tests.box.permits import Watched, watch
from tests.box.prepared import Served
from tests.box.run import Run

# Longer than two leases with what the others wait besides: whoever lives by grants would have stopped.
_LONG_SECONDS = 8.0
# Of callers whom nothing happens to: a box that goes on answers in one, unless its machine has other work.
_PATIENCE_SECONDS = 10


def all_of_it(pair: Paired, served: Served, stack: ExitStack) -> None:
    """Add a witness while `two` serves; cut cables between the three; take the witness away and bring it back."""
    witness = another(pair.one, "third", stack)
    install_bare(witness, served, "three", WITNESS_ADDRESS, _site_file())
    _introduce(pair, witness)
    places = {name: Path(f"/proc/{box.machine.leader}/root/run/sealift/lease") for name, box in pair.boxes.items()}
    with watch(places) as watched:
        _name(pair, served)
        _apart(pair, served)
        _cut(pair, served, watched)
        _fenced(pair, served, watched)
        _current(pair)
        _gone(pair, witness, served)
        _back(pair, witness)
        _killed(pair, served)
    pair.one.require("at no moment could both boxes serve", not watched.both, watched.both)


def _site_file() -> str:
    boxes = ", ".join(f'"{address}"' for address in NAMES.values())
    text = SITE_FILE.replace(f'addresses = ["{BOX_ADDRESS}"]', f'addresses = ["{WITNESS_ADDRESS}"]')
    return f'{text}\n[standby]\nlisten = "{WITNESS_ADDRESS}"\nboxes = [{boxes}]\n'


def _introduce(pair: Paired, witness: Run) -> None:
    run = pair.one
    with run.stage.chapter("The witness is introduced to both boxes, and begins to listen"):
        for name, box in pair.boxes.items():
            introduce({name: box, "three": witness}, ("production", "test"))
        witness.machine.run("systemctl", "enable", "--now", *UNITS)
        tested = witness.machine.run("systemctl", "start", "sealift-network.service", may_fail=True)
        run.require("the network's self-test holds on a witness", tested.returncode == 0, _network(witness))
        told = looks.findings(witness)["witness"]
        run.require("the witness says whom it lets in", told["is_good"] is True and OTHER_ADDRESS in told["text"], told)
        wait(lambda: lease(witness).get("is_witness") is True, witness)


def _name(pair: Paired, served: Served) -> None:
    """Name it on both boxes, first on the one that stands by; the service is handed over in between."""
    run = pair.one
    with run.stage.chapter("Both boxes are told of the witness, the one that stands by first; a hand-over in between"):
        _name_on(pair.one)
        wait(lambda: "was not heard to go by the witness three" in str(lease(pair.one).get("hindered")), pair.one)
        run.require("by a witness that one alone names it does not follow", not lease(pair.one)["would_follow"])
        words = ("sealift", "standby", "hand-over", "one", "--by", "Iris Mora")
        _, seconds = moved_by(pair, served, "one", lambda: pair.two.machine.run(*words))
        run.facts["hand_over_seconds"] = seconds
        run.require("one box serves after a hand-over", lease(pair.one)["serving"] is True)
        told = lease(pair.two)
        follows_not = told["would_follow"] is False and "goes by the witness three" in told["hindered"]
        run.require("who does not know the witness does not follow by itself", follows_not, told)
        _name_on(pair.two)
        _whole(pair, serves="one")
        for box in pair.boxes.values():
            tested = box.machine.run("systemctl", "start", "sealift-network.service", may_fail=True)
            run.require("and on both boxes that name it", tested.returncode == 0, _network(box))


def _name_on(run: Run) -> None:
    place = run.machine.root / SITE_FILE_PLACE
    place.write_text(place.read_text() + 'witness = "three"\n')
    run.machine.run("systemctl", "restart", "sealift-standby.service")


def _apart(pair: Paired, served: Served) -> None:
    """Cut what the boxes hear of each other; both reach the witness. Then cut the standby off from everybody."""
    run = pair.one
    with run.stage.chapter("The boxes hear nothing of each other, then the standby of nobody: callers notice nothing"):
        with load(run, served.key, **asking(pair), timeout=_PATIENCE_SECONDS) as asked:
            run.facility.keep_apart("one", "two")
            time.sleep(_LONG_SECONDS)
            serving = [lease(box).get("serving") for box in pair.boxes.values()]
            told = lease(pair.one)["voters"]
            run.facility.let_together()
            run.facility.cut("two")
            time.sleep(_LONG_SECONDS)
            run.facility.mend("two")
            asked.answered_since(time.time())
        run.require("with a witness a cut between the boxes moves nothing", serving == [True, False], serving)
        answers = {one["name"]: one["answers"] for one in told}
        run.require("the one that serves knows who is silent", answers == {"two": False, "three": True}, told)
        lost = [one for one in asked.asked if one.status != 200]
        run.require("no caller lost an answer", not lost, lost)
        answered_by(pair, asked.asked, {"one"})
        print(f"   {len(asked.asked)} answers, all of the one box")
        _whole(pair, serves="one")


def _cut(pair: Paired, served: Served, watched: Watched) -> None:
    run = pair.one
    with run.stage.chapter("The cable of the box that serves is cut: the witness grants the other one the service"):
        since = time.time()
        good, seconds = moved_by(pair, served, "two", lambda: run.facility.cut("one"))
        run.facts["fail_over_seconds_with_a_witness"] = seconds
        _ended_before(run, watched, since, stops="one", begins="two")
        run.facility.mend("one")
        _whole(pair, serves="two")
        answered_by(pair, good, {"one", "two"})


def _fenced(pair: Paired, served: Served, watched: Watched) -> None:
    """Cut the box that serves off from both other voters, while callers go on reaching it."""
    run, two = pair.one, pair.two.machine
    with run.stage.chapter("The box that serves reaches callers and no voter: it stops before the other one begins"):
        since = time.time()
        good, seconds = moved_by(pair, served, "one", lambda: run.facility.keep_apart("two", "one", "three"))
        run.facts["fail_over_seconds_of_a_box_that_callers_reach"] = seconds
        began = _ended_before(run, watched, since, stops="two", begins="one")
        address = two.run("ip", "address", "show", "dev", "facility0", shown=False).stdout
        run.require("it gave the service address up", SERVICE_ADDRESS not in address, address)
        run.facility.let_together()
        _whole(pair, serves="one")
        gave = answered_by(pair, good, {"one", "two"})
        late = [one for one in good if one.began > began and gave[one.request] != "one"]
        run.require("it answered nobody who asked after that", not late, late)


def _ended_before(run: Run, watched: Watched, since: float, *, stops: str, begins: str) -> float:
    """Hold that one box had no permit any more when the other one got its own; return when that was."""
    ended = watched.first(stops, serves=False, since=since)
    began = watched.first(begins, serves=True, since=since)
    between = round(began - ended, 2)
    print(f"   {between} s between the end of the one box's permit and the beginning of the other's")
    run.facts.setdefault("seconds_without_a_permit", []).append(between)
    run.require("one box's permit ends before the other's begins", between > 0, between)
    return began


def _current(pair: Paired) -> None:
    """Each box gets what the other recorded meanwhile, and every record holds."""
    run = pair.one
    with run.stage.chapter("The pair is whole again: each box gets the records of the other, and all of them hold"):
        for name, box in pair.boxes.items():
            verified = box.machine.result("sealift", "audit", "verify")
            run.require("no record is lost or changed on either box", verified["ok"] is True, (name, verified))
        sizes = {name: _to_hold(box) for name, box in pair.boxes.items()}
        # Twice, since the first start of each may join a run of the timer's that has made its bundle already.
        for box in (*pair.boxes.values(), *pair.boxes.values(), pair.one):
            box.machine.run("systemctl", "start", TIMER.replace(".timer", ".service"), shown=False)
        for (name, box), (other, size) in zip(pair.boxes.items(), reversed(sizes.items()), strict=True):
            held = _mirrored(box, other)
            run.require("each box holds what the other one recorded", held >= size, (name, held, size))


def _gone(pair: Paired, witness: Run, served: Served) -> None:
    """Cut the witness's power: callers notice nothing, and everybody who looks is told."""
    run = pair.one
    with run.stage.chapter("The witness loses its power: callers notice nothing, and people are told"):
        with load(run, served.key, **asking(pair), timeout=_PATIENCE_SECONDS) as asked:
            witness.machine.cut_power()
            time.sleep(_LONG_SECONDS)
            asked.answered_since(time.time())
        lost = [one for one in asked.asked if one.status != 200]
        run.require("without its witness the pair goes on", not lost, lost)
        answered_by(pair, asked.asked, {"one"})
        for name, box in pair.boxes.items():
            told = looks.findings(box)["lease"]
            is_told = told["is_good"] is False and "the witness three has not answered" in told["text"]
            run.require("each box's doctor names the witness that is silent", is_told, (name, told))
            print(f"   {name}: {told['text']}: {told['why']}")
            figures = looks.figures(box)
            found = [figures[f'sealift_lease_voter_answers{{voter="{one}"}}'] for one in ("witness", "other-box")]
            run.require("and its monitoring gets the number that an alert rests on", found == [0, 1], found)
        banners = run.workstation("banners", person="iris", password=password_of("iris"))["banners"]
        run.require("and the page says so", any("The witness three does not" in one for one in banners), banners)
        told = lease(pair.two)
        run.require("the standby knows that it would not follow", told["would_follow"] is False, told)
        drilled = _drilled(pair)
        run.require("a drill says that it could not take over by itself", drilled == {"lease": False}, drilled)


def _back(pair: Paired, witness: Run) -> None:
    run = pair.one
    with run.stage.chapter("The witness is there again: nothing is to be done"):
        witness.machine.boot()
        run.facility.plug_into_switch(witness.machine.leader, "three", WITNESS_ADDRESS)
        _whole(pair, serves="one")
        for name, box in pair.boxes.items():
            told = looks.findings(box)
            content = {one: told[one]["is_good"] for one in ("lease", "addresses")}
            run.require("each box's doctor is content again", all(content.values()), (name, told))
        drilled = _drilled(pair)
        run.require("a drill says again that it could take over", not drilled, drilled)


def _killed(pair: Paired, served: Served) -> None:
    """Kill what keeps the lease on each box while callers ask whichever serves; then `one` serves again."""
    run = pair.one
    with run.stage.chapter("SIGKILL of what keeps the lease, on one box and then on the other, under callers"):
        with load(run, served.key, **asking(pair), timeout=2) as asked:
            seconds = {name: kills.killed(box, UNITS[-1], asked) for name, box in pair.boxes.items()}
        run.facts["seconds_after_kill_of_keepers"] = seconds
        name = "what keeps the lease is back after a kill, and callers are answered, within 10 seconds"
        run.require(name, max(seconds.values()) < kills.BACK_SECONDS, seconds)
        answered_by(pair, [one for one in asked.asked if one.status == 200])
        wait(lambda: any(lease(box).get("serving") is True for box in pair.boxes.values()), run)
        if lease(pair.one).get("serving") is not True:
            pair.two.machine.run("sealift", "standby", "hand-over", "one", "--by", "Iris Mora")
        _whole(pair, serves="one")


def _whole(pair: Paired, *, serves: str) -> None:
    """Wait until one box serves, the other one would follow, and each hears both other voters."""
    other = next(name for name in pair.boxes if name != serves)

    def is_whole() -> bool:
        told = {name: lease(box) for name, box in pair.boxes.items()}
        heard = [one["answers"] for each in told.values() for one in each.get("voters", ())]
        return (
            heard == [True] * 4
            and (told[serves]["serving"], told[other]["holder"]) == (True, serves)
            and told[other]["would_follow"] is True
        )

    wait(is_whole, pair.boxes[other])


def _drilled(pair: Paired) -> dict[str, bool]:
    """Drill on the standby; return what does not hold."""
    told = pair.two.machine.told("sealift", "standby", "drill")
    return {one["check"]: one["holds"] for one in told["checks"] if one["holds"] is False}


def _network(run: Run) -> list[object]:
    return [one for one in run.machine.result("sealift", "network", "show")["tested"]["checks"] if not one["holds"]]


def _to_hold(run: Run) -> int:
    """Return how many records the other box has to hold; what tells of bundles alone is not sent for its own sake."""
    newest = run.machine.result("sealift", "audit", "list", "--limit", "100")["leaves"]
    return 1 + int(next(one["sequence"] for one in newest if one["kind"] not in {EXPORTED, IMPORTED}))


def _mirrored(run: Run, other: str) -> int:
    told = run.machine.result("sealift", "standby", "status")["boxes"]
    return int(next(one["mirrored"] for one in told if one["name"] == other))
