"""A release that brings an attached engine (ADR 50), on a box that serves: llama.cpp's own server as systemd starts it.

It brings the second model of `beside` as well, since making and installing a release takes minutes.

What people and systemd do is what they do for any version; what differs is that another's program decodes, as a child
of the launcher's worker. How its unit is held, without all else, is in test_attached_units.
"""

import shutil
import time
from pathlib import Path

from tests.box import beside, looks
from tests.box.box import MODEL, serve
from tests.box.load import load
from tests.box.operators import as_person, both_approve, both_promote
from tests.box.prepared import Served
from tests.box.run import ROOT, Run
from tests.box.sender import RECIPE
from tests.box.upgrade import next_release

VERSION = "q4_1-attached"
_HERE = ROOT / "tests/engines"
_LOCK = _HERE / "xllamacpp.txt"
_USER = "sealift-engine-prod"
_LONG = "Tell a long story about the sea."
_TOKENS = 40
_BEGUN_SECONDS = 0.3  # after so long the engine has begun to answer
# With its Python and its model a second program starts before it answers; on a quiet machine that takes about four.
_BACK_SECONDS = 20.0
_STOP_SECONDS = 30.0  # of the unit


def recipe_in(folder: Path) -> Path:
    """Lay down the box's recipe, the attached version of tests/interop and the demo's second model for its own."""
    folder.mkdir()
    shutil.copytree(RECIPE.parent / "evals", folder / "evals")
    before, _, rest = RECIPE.read_text().partition("[[models]]")
    packages = rest[rest.index("[debs]") :]
    _, locks, model = (_HERE / "attached.toml").read_text().partition("[locks]")
    model = model.replace('"demo-tasks.jsonl"', '"evals/demo-tasks.jsonl"')
    recipe = folder / "recipe.toml"
    recipe.write_text("\n".join([before, locks + model, beside.model_of_recipe(), packages]))
    return recipe


def installed(run: Run, medium: str) -> str:
    """Make, receive and install a release that brings the version, as two people approve; return its digest."""
    machine = run.machine
    next_release(run, 2, recipe=recipe_in(run.out / "other"), beside=[_LOCK])
    with run.stage.chapter("A release that brings an attached engine is installed from its medium's wheels"):
        machine.run("sealift", "receive", medium)
        plan = machine.result(*as_person("iris", "sealift", "install", "2", "--plan", "--as", "iris"))
        both_approve(machine, plan)
        facts = machine.result(*as_person("omar", "sealift", "install", "2"))
        run.require("an attached engine's environment is installed", "engine-attached" in facts["environments"], facts)
        listed = machine.result("sealift", "models", "list")["versions"]
        digests = [str(one["model_digest"]) for one in listed if one["version"] == VERSION]
        run.require("the version of the attached engine is on the box", len(digests) == 1, listed)
    return digests[0]


def serves(run: Run, served: Served, digest: str) -> None:
    """Promote the version that passed its gates, and look at its unit: proven, held, killed, stopped."""
    machine, name = run.machine, f"{MODEL}:{VERSION}"
    with run.stage.chapter("Two people bring an attached engine to production"):
        told = both_promote(machine, name)
        run.require("an attached engine serves", (told["step"], told["model_digest"]) == ("serving", digest), told)
    unit = f"sealift-engine-production@{digest[:12]}.service"
    proven(run, served)
    held(run, unit)
    killed(run, served, unit)
    drained(run, served, unit)


def proven(run: Run, served: Served) -> None:
    """Ask through web server and gateway, and prove the answer down to the wheel that the medium brought."""
    answer = serve(run, served.key, chapter="The attached engine answers through web server and gateway")
    with run.stage.chapter("Its answer is proven down to the wheel that the medium brought"):
        proof = run.machine.result("sealift", "prove", answer["request_id"])
        (engine,) = [step for step in proof["steps"] if step["name"] == "engine"]
        wheels = [sha256 for name, sha256 in engine["data"]["wheels"].items() if name.startswith("xllamacpp-")]
        is_of_the_lock = engine["ok"] is True and len(wheels) == 1 and wheels[0] in _LOCK.read_text()
        run.require("the proof names the attached engine's wheel", is_of_the_lock, engine)


def held(run: Run, unit: str) -> None:
    """Read from the kernel how the three processes of the unit are held, the other's program among them."""
    machine = run.machine
    with run.stage.chapter("How the kernel holds an attached engine's processes"):
        processes = _processes(run, unit)
        owner = machine.run("id", "-u", _USER, shown=False).stdout.strip()
        wrong: list[object] = []
        for process in processes:
            status = machine.status_of(process)
            held = (status["Uid"].split(), status["NoNewPrivs"], status["Seccomp"], int(status["CapBnd"], 16))
            links = machine.run("cat", f"/proc/{process}/net/dev", shown=False).stdout.splitlines()[2:]
            if held != ([owner] * 4, "1", "2", 0) or [line.split(":")[0].strip() for line in links] != ["lo"]:
                wrong.append((process, held, links))
        run.require("another's program has a user of its own, no right and no network", not wrong, wrong)
        filters = [int(machine.status_of(process)["Seccomp_filters"]) for process in processes]
        run.require("the launcher's worker starts nothing more", filters[1] == filters[0] + 1, filters)
        group = machine.run("cat", f"/proc/{processes[2]}/cgroup", shown=False).stdout
        limit = machine.run("systemctl", "show", "-P", "MemoryMax", unit, shown=False).stdout.strip()
        is_bounded = f"/{unit}\n" in group and limit.isdigit()
        run.require("another's program is within the unit's bounds of memory", is_bounded, (group, limit))


def killed(run: Run, served: Served, unit: str) -> None:
    """Kill all of it, then the other's program alone, while questions come in; measure until it answers again."""
    seconds: dict[str, float] = {}
    with run.stage.chapter("SIGKILL of an attached engine under load"), load(run, served.key) as asked:
        for which in ("unit", "program"):
            program, began = _processes(run, unit)[-1], time.time()
            run.machine.shell(f"systemctl kill --signal=KILL {unit}" if which == "unit" else f"kill -KILL {program}")
            _wait_for_another(run, unit, program)
            seconds[which] = round(asked.answered_since(time.time()).ended - began, 1)
    run.facts["attached_seconds_after_kill"] = seconds
    run.require("a killed attached engine is back within 20 seconds", max(seconds.values()) < _BACK_SECONDS, seconds)


def drained(run: Run, served: Served, unit: str) -> None:
    """Stop it while it answers: what was begun is answered; then it starts again."""
    machine = run.machine
    with run.stage.chapter("A stopped attached engine ends what it began"):
        with load(run, served.key, callers=1, text=_LONG, tokens=_TOKENS) as asked:
            time.sleep(1)
            began = time.time()
            machine.run("systemctl", "stop", unit)
            took = time.time() - began
        broken = [one for one in asked.asked if one.began < began - _BEGUN_SECONDS and one.status != 200]
        run.require("what an attached engine began it answers before it stops", not broken, broken)
        run.require("and it stops in time", took < _STOP_SECONDS, took)
        run.facts["attached_stopped_seconds"] = round(took, 1)
        machine.run("systemctl", "start", unit)
        again = run.workstation("post", key=served.key)
        run.require("a stopped attached engine answers again once it is started", again["status"] == 200, again)


def _wait_for_another(run: Run, unit: str, program: str) -> None:
    def is_another() -> bool:
        found = _processes(run, unit)
        return len(found) == 3 and found[-1] != program

    looks.wait(is_another, lambda: looks.journal(run, unit), pause=0.1)


def _processes(run: Run, unit: str) -> tuple[str, ...]:
    """Return the numbers of the unit's first process, its worker and the other's program; fewer while it starts."""
    found = [looks.main_process(run, unit)]
    while len(found) < 3:
        told = run.machine.shell(f"cat /proc/{found[-1]}/task/{found[-1]}/children").stdout.split()
        if len(told) != 1 or not told[0].isdigit():
            break
        found.append(told[0])
    return tuple(found)
