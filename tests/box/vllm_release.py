"""A release that brings vLLM, on a box that serves by llama.cpp: carried, installed, tried, promoted, run by systemd.

What the install lays beside the engines' units is what makes vLLM start there (ADR 66). How its unit is held, without
all else, is in tests/engines/test_vllm_units.
"""

import shutil
import time
from pathlib import Path

from appliance.install import additions, dropins
from examples.demo.people import password_of
from tests.box import looks
from tests.box.box import MODEL, serve
from tests.box.load import load
from tests.box.operators import as_person, both_approve, both_promote
from tests.box.prepared import Served
from tests.box.run import ROOT, Run
from tests.box.sender import RECIPE
from tests.box.upgrade import next_release
from tests.engines import line

VERSION = "bf16"
_NAME = f"{MODEL}:{VERSION}"
_ADDITION = dropins.ENGINES[additions.VLLM]
_UNITS = "etc/systemd/system"
_SECRET = "/root/omar.password"
_USER = "sealift-engine-prod"
_PROCESSES = 3  # the launcher, vLLM's server, its engine; and its worker where it has one
_FLAGS = 'cpu_flags = ["cx16",'


def all_of_it(run: Run, served: Served, medium: str) -> None:
    """Bring vLLM to production beside nothing else, kill it, and go back to the engine before."""
    digest = installed(run, medium)
    promoted(run, digest)
    serve(run, served.key, chapter="vLLM answers through web server and gateway, and the answer is proven")
    held(run, digest)
    killed(run, served, digest)
    taken_back(run, served, digest)


def recipe_in(folder: Path) -> Path:
    """Lay down a recipe of the box's header and packages, and of the model that tests/engines has for vLLM."""
    folder.mkdir(parents=True)
    shutil.copytree(RECIPE.parent / "evals", folder / "evals")
    before, _, rest = RECIPE.read_text().partition("[[models]]")
    _, locks, model = line.RECIPE.read_text().partition("[locks]")
    model = model.replace('"demo-tasks.jsonl"', '"evals/demo-tasks.jsonl"')
    packages = rest[rest.index("[debs]") : rest.index("# Findings of the scan")]
    packages = packages.replace('"libgomp1",', '"libgomp1", "libnuma1",')
    recipe = folder / "recipe.toml"
    recipe.write_text("\n".join([before.replace(_FLAGS, f'{_FLAGS} "avx2",'), locks + model, packages]))
    return recipe


def installed(run: Run, medium: str) -> str:
    """Make, receive and install a release that brings the version, as two people approve; return its digest."""
    machine, made = run.machine, line.recipe_in(run.out / "made")
    named = ("engine-vllm.txt", "chat_template.jinja", "LICENSE", "smollm2")
    next_release(run, 2, recipe=recipe_in(run.out / "other"), beside=[made.parent / name for name in named])
    with run.stage.chapter("A release that brings vLLM is installed from its medium's wheels"):
        machine.run("sealift", "receive", medium)
        plan = machine.result(*as_person("iris", "sealift", "install", "2", "--plan", "--as", "iris"))
        run.require("the plan shows what vLLM's units get", _ADDITION in plan["difference"], plan)
        both_approve(machine, plan)
        facts = machine.result(*as_person("omar", "sealift", "install", "2"))
        run.require("an environment of vLLM is installed", "engine-vllm" in facts["environments"], facts)
        wanted = (ROOT / "systemd/variants/vllm.conf").read_text()
        laid = [machine.root / _UNITS / f"{unit}.d" / _ADDITION for unit in dropins.ENGINE_UNITS.values()]
        run.require("both stages' units have the addition", all(path.read_text() == wanted for path in laid))
        again = machine.result(*as_person("omar", "sealift", "install", "2"))
        run.require("and again nothing changes for vLLM", again["changed"] is False, again)
        listed = machine.result("sealift", "models", "list")["versions"]
        digests = [str(one["model_digest"]) for one in listed if one["version"] == VERSION]
        run.require("the version for vLLM is on the box", len(digests) == 1, listed)
    return digests[0]


def promoted(run: Run, digest: str) -> None:
    """Validate the version in test and let two people promote it in the place of the one before."""
    machine = run.machine
    with run.stage.chapter("vLLM passes every gate in test"):
        began = time.monotonic()
        judged = machine.result(*as_person("iris", "sealift", "validate", _NAME))
        run.facts["vllm_validated_seconds"] = round(time.monotonic() - began, 1)
        run.require("vLLM's version passed every gate", judged["passed"] is True, judged)
    with run.stage.chapter("Two people bring vLLM to production"):
        told = both_promote(machine, _NAME)
        run.require("vLLM serves", (told["step"], told["model_digest"]) == ("serving", digest), told)


def held(run: Run, digest: str) -> None:
    """Read from the kernel how each process of the unit is held, and what the page and status say of it."""
    machine = run.machine
    with run.stage.chapter("How the kernel holds vLLM's processes"):
        found = machine.run(
            "find", "/proc", "-maxdepth", "1", "-user", _USER, "-printf", "%f ", shown=False
        ).stdout.split()
        run.require("vLLM's processes are the unit's user's", len(found) >= _PROCESSES, found)
        wrong: list[object] = []
        for process in found:
            status = machine.status_of(process)
            if not status:  # it lived for a moment
                continue
            links = machine.run("cat", f"/proc/{process}/net/dev", shown=False).stdout.splitlines()[2:]
            kept = (status["NoNewPrivs"], status["Seccomp"], int(status["CapBnd"], 16))
            if kept != ("1", "2", 0) or [each.split(":")[0].strip() for each in links] != ["lo"]:
                wrong.append((status["Name"], kept, links))
        run.require("each has no right and no network", not wrong, wrong)
        doctor = machine.run("sealift", "doctor", "--json", shown=False, may_fail=True).stdout
        unit = f"sealift-engine-production@{digest[:12]}.service"
        run.require("systemd says that vLLM's unit is well", looks.is_active(run, unit), doctor)


def killed(run: Run, served: Served, digest: str) -> None:
    """Kill all of it while questions come in; measure until it answers again."""
    unit = f"sealift-engine-production@{digest[:12]}.service"
    with run.stage.chapter("SIGKILL of vLLM under load"), load(run, served.key) as asked:
        main, began = looks.main_process(run, unit), time.time()
        run.machine.run("systemctl", "kill", "--signal=KILL", unit)
        looks.wait(
            lambda: looks.is_active(run, unit) and looks.main_process(run, unit) not in {"0", main},
            lambda: looks.journal(run, unit),
        )
        run.facts["vllm_seconds_after_kill"] = round(asked.answered_since(time.time()).ended - began, 1)
    run.require("a killed vLLM is back by itself", holds_now=True)


def taken_back(run: Run, served: Served, digest: str) -> None:
    """Go back to the version before: llama.cpp answers, and nothing of vLLM is left running."""
    machine = run.machine
    with run.stage.chapter("One person goes back to the version before"):
        (machine.root / _SECRET.lstrip("/")).write_text(password_of("omar") + "\n")
        words = ("sealift", "rollback", "--as", "omar", "--reason", "change 4714")
        machine.run(*words, "--password-file", _SECRET)
    serve(run, served.key, chapter="llama.cpp answers again")
    with run.stage.chapter("Nothing of vLLM is left running"):
        unit = f"sealift-engine-production@{digest[:12]}.service"
        looks.wait(lambda: not looks.is_active(run, unit), lambda: looks.journal(run, unit))
        group = machine.run("systemctl", "show", "-P", "TasksCurrent", unit, shown=False).stdout.strip()
        run.require("vLLM's unit has no process any more", group in {"0", "[not set]"}, group)
