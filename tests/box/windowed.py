"""A maintenance window on a box that serves: production rests while gates run, and is back whatever becomes of it."""

import threading
import time
from contextlib import suppress
from typing import Any

from tests.box import looks
from tests.box.box import MODEL, serve
from tests.box.machine import BoxError
from tests.box.operators import as_person
from tests.box.prepared import Served
from tests.box.run import Run, wait_for_engine

_SECONDS = 900.0
# Whoever starts these tests in the background lets SIGINT be ignored, and a command would inherit that.
_OPEN = (
    "env",
    "--default-signal=INT",
    "sealift",
    "validate",
    MODEL,
    "--window",
    "--as",
    "iris",
    "--reason",
    "change 4711",
    "--minutes",
    "60",
)
# The box has no pkill: every process of iris whose words are those of the command.
_SIGNAL = """
import os, pwd, signal, sys
from pathlib import Path
iris = pwd.getpwnam("iris").pw_uid
for one in Path("/proc").glob("[0-9]*"):
    try:
        words = (one / "cmdline").read_bytes().split(b"\\0")
        if one.stat().st_uid == iris and {b"validate", b"--window"} <= set(words):
            os.kill(int(one.name), signal.Signals["SIG" + sys.argv[1]])
            print(one.name)
    except (FileNotFoundError, ProcessLookupError):
        pass
"""


def broken_off(run: Run, served: Served) -> None:
    """Press Ctrl-C in the middle: production is back when the command has ended."""
    with run.stage.chapter("A maintenance window that is broken off: Ctrl-C while the gates run"):
        planned = run.machine.result(*as_person("iris", *_OPEN, "--dry-run"))
        run.require("the preview of a window changed nothing", _window(run) is None, planned)
        working, done = _begin(run)
        _rests(run, served)
        told = run.workstation("post", key=served.key)
        is_clear = (told["status"], told["code"]) == (503, "maintenance_window") and int(told["retry_after"]) >= 1
        run.require("callers get a 503 that says when to ask again", is_clear, told)
        _signal(run, "INT")
        working.join(_SECONDS)
        run.require("a window that was broken off is closed as ended", _closed(run)["why"] == "ended", done)
    serve(run, served.key, chapter="Production answers again after Ctrl-C")


def killed(run: Run, served: Served) -> None:
    """Kill the command: the gates go on, their verdicts are recorded, and production comes back by itself."""
    with run.stage.chapter("The command of a window is killed: the gates end, and production comes back"):
        working, _ = _begin(run)
        _rests(run, served)
        _signal(run, "KILL")
        working.join(_SECONDS)
        window = _window(run)
        run.require("a window outlives its command", window is not None)
        looks.wait(lambda: _window(run) is None, lambda: "the window was not closed by itself", seconds=_SECONDS)
        closed = _closed(run)
        run.require("the gates of a window whose command was killed ended", closed["why"] == "done", closed)
        run.facts["window_gates_seconds"] = round(closed["tested_millis"] / 1000, 1)
        run.facts["window_silent_seconds"] = round(closed["silent_millis"] / 1000, 1)
        run.facts["window_back_seconds"] = round(closed["back_millis"] / 1000, 1)
        told = run.machine.result("sealift", "validate", MODEL, "--last")
        run.require("every gate passed in the window", told["passed"] is True, told)
    serve(run, served.key, chapter="Production answers again after the window")


def cut(run: Run, served: Served) -> None:
    """Cut the power while production rests: it is back with the boot, and the record is closed."""
    with run.stage.chapter("Power is lost in the middle of a window"):
        _begin(run)
        _rests(run, served)
        run.machine.cut_power()
        began = time.monotonic()
        run.machine.boot()
        run.facility.plug_in(run.machine.leader)
        wait_for_engine(run)
        run.facts["window_boot_to_engine_seconds"] = round(time.monotonic() - began, 1)
        looks.wait(lambda: _window(run) is None, lambda: "the window was not closed after the boot", seconds=_SECONDS)
        run.require("a window that lost its power is closed as cut off", _closed(run)["why"] == "cut-off", _closed(run))
        run.machine.run("sealift", "audit", "verify", shown=False)
    serve(run, served.key, chapter="Production answers again after the power failure")


def _begin(run: Run) -> tuple[threading.Thread, list[Any]]:
    """Open a window in the background; what the command ended with is appended to the list."""
    done: list[Any] = []

    def work() -> None:
        with suppress(BoxError):  # the power may go under it
            ended = run.machine.run(*as_person("iris", *_OPEN), may_fail=True)
            done.append((ended.returncode, ended.stderr[-2000:]))

    working = threading.Thread(target=work, daemon=True)
    working.start()
    return working, done


def _rests(run: Run, served: Served) -> None:
    """Wait until production's engine is down and the tested one is up."""
    digest = served.digest[:12]
    looks.wait(
        lambda: (
            not looks.is_active(run, f"sealift-engine-production@{digest}.service")
            and looks.is_active(run, f"sealift-engine-test@{digest}.service")
        ),
        lambda: "production did not rest",
        seconds=_SECONDS,
    )
    window = _window(run)
    run.require("the window is on record", window is not None and window["person"] == "iris", window)


def _signal(run: Run, name: str) -> None:
    """Send a signal to the command that opened the window, and to nothing that started it."""
    told = run.machine.run("python3", "-I", "-c", _SIGNAL, name).stdout.split()
    run.require("the command that opened the window still ran", bool(told), told)


def _window(run: Run) -> dict[str, Any] | None:
    found: dict[str, Any] | None = run.machine.result("sealift", "window", "show")["open"]
    return found


def _closed(run: Run) -> dict[str, Any]:
    records = run.machine.result("sealift", "audit", "list", "--kind", "window.closed", "--limit", "1")["leaves"]
    body: dict[str, Any] = records[0]["body"]
    return body
