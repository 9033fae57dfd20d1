"""What a site may add to a box that serves: engines that wait or are another's, a second model, scripts, names."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.box import attached, beside, looks, scripted
from tests.box.box import MODEL, serve
from tests.box.load import load
from tests.box.operators import as_person
from tests.box.prepared import Served
from tests.box.removed import uninstall
from tests.box.run import Run, wait_for_engine
from tests.box.upgrade import SITE_FILE

_WAITING = '\n[engines.production]\noverflow = "cpu"\nstandby = true\n'
# Fewer and more than the first engine answers at once (`n_seq_max` of examples/box.toml).
_FEW, _MANY = 3, 8
_QUICK = 38.0  # questions a second; a key of tier premium has forty
# Of a processor: what the first engine works until it is looked who else did, and what shows that another answers.
_LONG_SECONDS = 3.0
_BUSY_SECONDS = 1.0
_HOLDS_SECONDS = 30.0
_TIMES = 3  # as much work as of an engine that waits
_LISTED = "Vandersloot-Quill, Zephyrine"
_TEXT = "When may vandersloot quill, zephyrine go home?"
_BROUGHT = "/root/names.txt"
_LIST = "var/lib/sealift/census/names"


def all_of_it(run: Run, served: Served, medium: str) -> None:
    """Each of these, in an order in which none disturbs the next; with the last, Sealift is gone.

    Args:
        run: The run.
        served: The box that serves.
        medium: Where a release with another version is plugged in.
    """
    engines_wait(run, served)
    digest = attached.installed(run, medium)
    scripted.policy_of_site(run)
    scripted.scripts_ask(run, digest)
    beside.all_of_it(run, served)
    attached.serves(run, served, digest)
    names_listed(run, served)
    with_the_rest(run)


def engines_wait(run: Run, served: Served) -> None:
    """Overflow and a warm standby start as units, answer when their turn comes, come with a boot, and go again."""
    machine, site_file, key = run.machine, run.machine.root / SITE_FILE, _quick_key(run)
    before = site_file.read_text()
    first, overflow, standby = units = [
        f"sealift-engine-production@{served.digest[:12]}{which}.service" for which in ("", "-cpu", "-standby")
    ]
    with run.stage.chapter("Overflow and a standby wait beside the first engine, and answer when their turn comes"):
        site_file.write_text(before + _WAITING)
        told = machine.result(*as_person("omar", "sealift", "promote", MODEL, "--as", "omar"))
        run.require("a promotion starts overflow and standby", all(looks.is_active(run, one) for one in units), told)
        with load(run, key, callers=_FEW, a_second=_QUICK):
            had = [looks.worked(run, one) for one in units]
            _busy(run, first, _LONG_SECONDS)
            answering, *waiting = _since(run, units, had)
            run.require("while the first engine answers the others wait", max(waiting) * _TIMES < answering, waiting)
        with load(run, key, callers=_MANY, a_second=_QUICK, tokens=48) as more:
            had = [looks.worked(run, one) for one in units]
            _busy(run, overflow, _LONG_SECONDS)
            answering, relieving, idle = _since(run, units, had)
            more.answered_since(time.time())
        run.require("overflow answers what the first engine has no place for", answering > _BUSY_SECONDS, answering)
        run.require("and the standby waits", idle * _TIMES < min(answering, relieving), (answering, relieving, idle))
        refused = [one for one in more.asked if one.status != 200]
        run.require("nobody is refused for want of a place", not refused, refused)
        with load(run, key, callers=_FEW, a_second=_QUICK) as asked:
            had = [looks.worked(run, one) for one in (overflow, standby)]
            with _killed(run, first):
                _busy(run, overflow)
                asked.answered_since(time.time())
            run.require("an engine that ended is back", looks.is_active(run, first))
            answering, waited = _since(run, [overflow, standby], had)
            run.require("while overflow answers the standby waits", waited * _TIMES < answering, (answering, waited))
            with _killed(run, first, overflow):
                _busy(run, standby)
                asked.answered_since(time.time())
            asked.answered_since(time.time())
        run.facts["engines_that_waited_worked_seconds"] = [round(one, 2) for one in (*waiting, waited, idle)]
        run.facts["asked_while_engines_were_killed"] = len(asked.asked)
        lost = [one for one in asked.asked if one.status != 200]
        run.require("no caller lost an answer to the killed engines", not lost, lost)
    with run.stage.chapter("They come with a boot, and go when the site file names them no more"):
        machine.reboot()
        run.facility.plug_in(machine.leader)
        wait_for_engine(run)
        looks.wait(lambda: all(looks.is_active(run, one) for one in units), lambda: looks.journal(run, standby))
        run.require("overflow and standby come with a boot", holds_now=True)
        site_file.write_text(before)
        machine.result(*as_person("omar", "sealift", "promote", MODEL, "--as", "omar"))
        left = [one for one in units if looks.is_active(run, one)]
        run.require("engines that the site file names no more are stopped", left == [first], left)
    serve(run, served.key, chapter="The first engine answers alone")


def _quick_key(run: Run) -> str:
    words = ("--department", "radiology", "--owner", "box", "--tier", "premium")
    return str(run.machine.result("sealift", "keys", "create", *words)["key"])


def names_listed(run: Run, served: Served) -> None:
    """Load a list of names: the gateway finds one that no pattern would; the list is read by nobody else."""
    machine = run.machine
    with run.stage.chapter("The site's list of names: found in a request, encrypted, in no log"):
        unlisted = run.workstation("post", key=served.key, text=_TEXT)
        run.require("no pattern knows the name", (unlisted["status"], unlisted["phi"]) == (200, "none"), unlisted)
        (machine.root / _BROUGHT.lstrip("/")).write_text(f"{_LISTED}\nDoe, Jane\n")
        machine.run("sealift", "census", "import", _BROUGHT, "--as", "iris")
        asked = _asked_until(run, served, _TEXT, lambda one: one["phi"] == "name=1")
        run.require("the gateway finds a name of the list", (asked["status"], asked["phi"]) == (200, "name=1"), asked)
        intents = [one["body"] for one in looks.records(run, "request.intent")]
        noted = [one["phi"] for one in intents if one["request_id"] == asked["request_id"]]
        run.require("the record counts it", noted == [{"name": 1}], noted)
        shown = machine.result("sealift", "census", "show")
        run.require("the list is shown as recorded", (shown["names"], shown["by"], shown["fault"]) == (2, "iris", None))
        owner = machine.run("stat", "-c", "%U %G %a", f"/{_LIST}", shown=False).stdout.split()
        run.require("root writes it, the gateway reads it", owner == ["root", "sealift-gateway", "640"], owner)
        written = _with_the_name(run)
        run.require("the name is in no other file and in no log", written == [_BROUGHT], written)
        kept = machine.shell(f"cp -a /{_LIST} /root/names && truncate -s -1 /{_LIST}")
        refused = _asked_until(run, served, "Nobody is named here.", lambda one: one["status"] != 200)
        is_refused = (refused["status"], refused["code"]) == (500, "phi_unavailable")
        run.require("nothing is answered with a damaged list", is_refused, (refused, kept.stdout))
        machine.shell(f"cp -a /root/names /{_LIST} && rm /root/names")
        asked = _asked_until(run, served, _TEXT, lambda one: one["phi"] == "name=1")
        run.require("and all is with a whole one", (asked["status"], asked["phi"]) == (200, "name=1"), asked)


def _asked_until(run: Run, served: Served, text: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask until an answer is so: a list that lies there holds a second later on a quiet machine."""
    return looks.answered(run, served.key, is_so, seconds=_HOLDS_SECONDS, text=text)


def with_the_rest(run: Run) -> None:
    """Take Sealift off: the list goes, its record stays."""
    announced, folder = uninstall(run)["removed"], _LIST.rpartition("/")[0]
    with run.stage.chapter("With Sealift the list of names is gone"):
        run.require("the list is announced to go", folder in announced, announced)
        left = run.machine.shell(f"ls -d /{folder} 2>/dev/null").stdout
        run.require("the list went with the rest", not left.strip(), left)


def _since(run: Run, units: list[str], had: list[float]) -> list[float]:
    """Return for how long each engine worked since it had worked so long."""
    return [looks.worked(run, unit) - seconds for unit, seconds in zip(units, had, strict=True)]


def _busy(run: Run, unit: str, seconds: float = _BUSY_SECONDS) -> None:
    """Wait until an engine has worked for so long."""
    had = looks.worked(run, unit)
    looks.wait(lambda: looks.worked(run, unit) > had + seconds, lambda: f"{unit} did nothing: {had}")


@contextmanager
def _killed(run: Run, *units: str) -> Iterator[None]:
    """Kill engines; in the end they are back by themselves.

    Several stand still before: what one that dies had read is else read by the next in the milliseconds before that is
    killed, too, and a request that ended two engines is given to no third one.
    """
    mains = {unit: looks.main_process(run, unit) for unit in units}

    def are_back() -> bool:
        return all(
            looks.is_active(run, unit) and looks.main_process(run, unit) not in {"0", main}
            for unit, main in mains.items()
        )

    if len(units) > 1:
        run.machine.run("systemctl", "kill", "--signal=STOP", *units)
    run.machine.run("systemctl", "kill", "--signal=KILL", *units)
    yield
    looks.wait(are_back, lambda: "\n".join(looks.journal(run, unit) for unit in units))


def _with_the_name(run: Run) -> list[str]:
    """Return every file of the box, the journal read out besides, that holds the name in letters."""
    name = _LISTED.partition("-")[0]
    found = run.machine.shell(f"grep -rlaiF {name} /var /etc /root /home /tmp /run 2>/dev/null").stdout.splitlines()
    told = run.machine.shell(f"journalctl -o cat | grep -ciF {name}").stdout.strip()
    return [*found, *(["journal"] if told != "0" else [])]
