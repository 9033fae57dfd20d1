import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.errors import BuildError, SourceError
from bundler.process import capture, run


def test_each_line_is_shown_as_it_comes_and_all_come_back(tmp_path: Path) -> None:
    seen: list[str] = []

    told = run(
        [
            sys.executable,
            "-c",
            "import os, sys; print(os.getcwd()); print(os.environ['X'], file=sys.stderr, flush=True)",
        ],
        what="w",
        fix="f",
        environment={"X": "y"},
        folder=tmp_path,
        on_line=seen.append,
    )

    assert sorted(seen) == sorted([str(tmp_path), "y"])
    assert told.splitlines() == seen


def test_a_failure_says_what_the_program_said_last() -> None:
    with pytest.raises(SourceError) as caught:
        run([sys.executable, "-c", "print('no space'); raise SystemExit(3)"], what="w", fix="f", error=SourceError)

    assert (caught.value.what, caught.value.why, caught.value.fix) == ("w", "exit code 3: no space", "f")


def test_of_a_program_of_ours_that_broke_only_the_error_is_told_and_no_folder_of_this_machine() -> None:
    with pytest.raises(BuildError) as failed:
        capture(
            [sys.executable, "-c", "def f():\n  raise ValueError('too few')\nf()"], what="w", fix="f", error=BuildError
        )

    assert failed.value.why == "exit code 1: ValueError: too few"


def test_an_absent_program_is_named() -> None:
    for call in (run, capture):
        with pytest.raises(BuildError, match="w") as caught:
            call(["sealift-no-such-program"], what="w", fix="f")
        assert "sealift-no-such-program" in caught.value.why


def test_captured_output_holds_no_talk() -> None:
    script = "import sys; sys.stdout.buffer.write(b'\\xff'); print('warning', file=sys.stderr)"

    assert capture([sys.executable, "-c", script], what="w", fix="f") == b"\xff"
    with pytest.raises(BuildError) as caught:
        capture([sys.executable, "-c", "import sys; sys.exit('bad')"], what="w", fix="f")
    assert caught.value.why == "exit code 1: bad"


@pytest.mark.parametrize("start", [run, capture])
def test_no_program_inherits_the_token_of_a_hub(
    start: Callable[..., str | bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "geheim")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "geheim")
    monkeypatch.setenv("SEEN", "yes")

    told = start(["env"], what="env", fix="")

    text = told if isinstance(told, str) else told.decode()
    assert "SEEN=yes" in text
    assert "geheim" not in text


STARTS_ANOTHER = """
import os, subprocess, sys, time
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", deaf])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
COMMAND = """
import signal, sys, typer
from bundler.cli import context
from bundler.process import run

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background begins without
app = typer.Typer()

@app.callback()
def root(): ...

@app.command()
def build():
    run([sys.executable, "-c", sys.argv[1]], what="w", fix="f", on_line=lambda line: print(line, flush=True))

context.run(app, ["build"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_ended_leaves_nothing_running(number: signal.Signals) -> None:
    """Not even what the program started and what does not heed SIGTERM, as a compiler below pip may not."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, STARTS_ANOTHER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        started = [int(word) for word in command.stdout.readline().split()]
        command.send_signal(number)
        try:
            _, said = command.communicate(timeout=60)
        finally:
            command.kill()

    assert (command.returncode, said[:18]) == (130, "error: interrupted")
    for pid in started:
        end = time.monotonic() + 30
        while _runs(pid) and time.monotonic() < end:
            time.sleep(0.05)
        assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - gone between the two is as good
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
