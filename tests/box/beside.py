"""Two models in production side by side (ADR 56) on a box that serves: each line by its name, killed, cut off, stopped.

The second is the demo's own sibling of the first, made at another level; the release that brings it is `attached`'s.
"""

import re
import time
from collections.abc import Callable
from typing import Any

from examples.demo.people import password_of
from tests.box import looks
from tests.box.box import MODEL
from tests.box.load import load
from tests.box.operators import as_person, both_promote
from tests.box.prepared import Served
from tests.box.run import ROOT, Run

NAME = "smollm2-135m-instruct-q8_0"
_RECIPE = ROOT / "examples/demo.toml"
_USER = "sealift-engine-prod"
_SECRET = "/root/omar.password"
_HOLDS_SECONDS = 10.0


def model_of_recipe() -> str:
    """Return what a recipe says of the second model."""
    _, _, rest = _RECIPE.read_text().rpartition("[[models]]")
    return "[[models]]" + rest.partition("# Findings of the scan")[0]


def all_of_it(run: Run, served: Served) -> None:
    """Open a line beside the first, break it, cut the power, stop it; the first one answers all the while."""
    digest = opened(run)
    units = [f"sealift-engine-production@{one[:12]}.service" for one in (served.digest, digest)]
    both_answer(run, served, digest, chapter="Both models answer by name over TLS, and each answer is proven")
    department_stopped(run, served)
    held(run, units)
    watched(run, units)
    killed(run, served, units[1])
    cut(run, served, digest, units)
    stopped(run, served, units)


def opened(run: Run) -> str:
    """Validate the second model and let two people promote it beside the first; return its digest."""
    machine = run.machine
    with run.stage.chapter("Two people bring a second model to production, beside the first"):
        machine.result(*as_person("iris", "sealift", "validate", NAME))
        unsaid = machine.run(*as_person("iris", "sealift", "promote", NAME, "--as", "iris"), may_fail=True)
        run.require("a model of another name takes no place unsaid", unsaid.returncode != 0, unsaid.stdout)
        told = both_promote(machine, NAME, beside=True)
        run.require("a second model serves beside the first", told["step"] == "serving", told)
    return str(told["model_digest"])


def both_answer(run: Run, served: Served, digest: str, *, chapter: str) -> None:
    """Ask each by its name; both are listed, and the proof of each answer holds."""
    with run.stage.chapter(chapter):
        listed = run.workstation("listed", key=served.key)["models"]
        run.require("both models are listed", {MODEL, NAME} <= set(listed), listed)
        for name, version in ((MODEL, served.digest), (NAME, digest)):
            answer = run.workstation("ask", key=served.key, model=name)
            print(f"   {name} {answer['request_id']}: {answer['text']}")
            run.require("a name leads to its own line", answer["model_digest"] == version, answer)
            proof = run.machine.result("sealift", "prove", answer["request_id"])
            run.require("the proof of each line's answer holds", proof["ok"] is True, proof)


def department_stopped(run: Run, served: Served) -> None:
    """Let one operator stop a department and the other lift it; nobody who may write the state does anything."""
    with run.stage.chapter("An operator stops a department within seconds, and another lifts it"):
        for person, lift, status in (("iris", "", 503), ("omar", "--lift", 200)):
            secret = f"home/{person}/password"
            (run.machine.root / secret).write_text(password_of(person) + "\n")
            run.machine.shell(f"chown {person} /{secret} && chmod 600 /{secret}")
            command = f"sealift stop --department radiology {lift} --as {person} --reason pilot".split()
            run.machine.run(*as_person(person, *command, "--password-file", f"/{secret}"))
            (run.machine.root / secret).unlink()
            told = looks.answered(run, served.key, _has(status), seconds=_HOLDS_SECONDS)
            is_told = status == 200 or told["code"] == "stopped"
            run.require("a department's callers are stopped, and answered again", is_told, told)


def _has(status: int) -> Callable[[dict[str, Any]], bool]:
    return lambda answer: bool(answer["status"] == status)


def held(run: Run, units: list[str]) -> None:
    """Look how systemd holds both engines."""
    machine = run.machine
    with run.stage.chapter("How systemd holds the engines of both lines"):
        for unit in units:
            owner = machine.run("stat", "-c", "%U", f"/proc/{looks.main_process(run, unit)}", shown=False).stdout
            limit = machine.run("systemctl", "show", "-P", "MemoryMax", unit, shown=False).stdout.strip()
            is_held = owner.strip() == _USER and limit.isdigit()
            run.require("the engine of each line has its user and a limit of memory", is_held, (unit, owner, limit))
            enabled = machine.run("systemctl", "is-enabled", unit, shown=False, may_fail=True).stdout.strip()
            run.require("the engine of each line comes with a boot", enabled == "enabled", (unit, enabled))
        again = machine.result("sealift", "install")
        run.require("an install changes nothing with two lines", again["changed"] is False, again)


def watched(run: Run, units: list[str]) -> None:
    """Doctor, status and figures take the second engine for what it is, and miss it when it is gone."""
    with run.stage.chapter("Doctor, status and figures know both lines, and say which one is without its engine"):
        told = run.machine.told("sealift", "status")
        run.require("the status is content with two lines", told["production"]["good"] is True, told["production"])
        run.require("and misses no unit", told["units"]["good"] is True, told["units"])
        run.require("doctor is content with two lines", not _of_production(run), _of_production(run))
        had = _served(run)
        run.require("each line's version is counted as served", had == dict.fromkeys(map(_digest12, units), 1.0), had)
        run.machine.run("systemctl", "stop", units[1])
        bad, had = _of_production(run), _served(run)
        is_told = [one["text"][:12] for one in bad] == [_digest12(units[1])] and "memory" not in bad[0]["text"]
        run.require("doctor misses the second line's engine alone", is_told, bad)
        run.require("and so does monitoring", had == {_digest12(units[0]): 1.0, _digest12(units[1]): 0.0}, had)
        run.machine.run("sealift", "doctor", "--mend", shown=False, may_fail=True)
        run.require("doctor starts it again", looks.is_active(run, units[1]), looks.journal(run, units[1]))


def killed(run: Run, served: Served, unit: str) -> None:
    """Kill the second line's engine: the first answers every question meanwhile, and systemd brings it back."""
    machine = run.machine
    with run.stage.chapter("SIGKILL of the second line's engine: the first answers, and it comes back by itself"):
        main = looks.main_process(run, unit)
        with load(run, served.key) as asked:
            began = time.time()
            machine.run("systemctl", "kill", "--signal=KILL", unit)
            looks.wait(
                lambda: looks.is_active(run, unit) and looks.main_process(run, unit) not in {"0", main},
                lambda: looks.journal(run, unit),
            )
            run.facts["second_line_back_seconds"] = round(time.time() - began, 1)
            asked.answered_since(time.time())
        lost = [one for one in asked.asked if one.status != 200]
        run.require("the first line answers while the second is away", not lost, lost)
        again = run.workstation("ask", key=served.key, model=NAME)
        run.require("the second line's engine is back by systemd", bool(again["text"]), again)


def cut(run: Run, served: Served, digest: str, units: list[str]) -> None:
    """Cut the power: both lines are back with the boot."""
    machine = run.machine
    with run.stage.chapter("Power is lost while both serve: both come with the boot"):
        machine.cut_power()
        began = time.monotonic()
        machine.boot()
        run.facility.plug_in(machine.leader)
        looks.wait(lambda: all(looks.is_active(run, one) for one in units), lambda: looks.journal(run, units[1]))
        run.facts["lines_boot_to_engines_seconds"] = round(time.monotonic() - began, 1)
        run.require("both lines come with a boot", holds_now=True)
    both_answer(run, served, digest, chapter="Both answer again after the power failure")


def stopped(run: Run, served: Served, units: list[str]) -> None:
    """Stop the second line by its name: the first goes on, and the second does not come with the next boot."""
    machine = run.machine
    with run.stage.chapter("One person stops the second line; the first goes on"):
        (machine.root / _SECRET.lstrip("/")).write_text(password_of("omar") + "\n")
        words = ("sealift", "stop", "--line", NAME, "--as", "omar", "--reason", "change 4713")
        with load(run, served.key) as asked:
            machine.run(*words, "--password-file", _SECRET)
            asked.answered_since(time.time())
        lost = [one for one in asked.asked if one.status != 200]
        run.require("the first line answers while the second is stopped", not lost, lost)
        told = run.workstation("post", key=served.key, model=NAME)
        run.require("callers of a stopped line are told so", (told["status"], told["code"]) == (503, "no_model"), told)
        left = [one for one in units if looks.is_active(run, one)]
        run.require("a stopped line has no engine", left == units[:1], left)
        enabled = machine.run("systemctl", "is-enabled", units[1], shown=False, may_fail=True).stdout.strip()
        run.require("and none comes with a boot", enabled == "disabled", enabled)
        plan = machine.result("sealift", "models", "fit", NAME)["plan"]
        run.require("its version would come back and take nobody's place", "nothing goes away" in plan[0], plan)


def _digest12(unit: str) -> str:
    return unit.partition("@")[2][:12]


def _served(run: Run) -> dict[str, float]:
    """Return which promoted version an engine serves, as monitoring reads it."""
    found = re.compile(r'sealift_production_served\{digest="([0-9a-f]+)"\}')
    return {match[1]: value for name, value in looks.figures(run).items() if (match := found.fullmatch(name))}


def _of_production(run: Run) -> list[dict[str, Any]]:
    found = run.machine.told("sealift", "doctor")["findings"]
    return [one for one in found if one["name"] in {"production", "unit"} and one["is_good"] is False]
