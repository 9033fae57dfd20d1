"""Benchmarks weigh services as the units of the project say, and undo it."""

import os
import subprocess
import sys
from pathlib import Path

from bench import shares


def test_a_unit_weighs_what_its_file_says_and_else_what_systemd_gives() -> None:
    assert shares.weight_of("sealift-gateway.service") > shares.weight_of("sealift-engine-production@.service")
    assert shares.weight_of("sealift-clock.service") == shares.USUAL


def test_a_process_is_found_by_a_word_of_its_command_and_weighed_until_the_block_ends() -> None:
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "a-word-of-its-own"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # until then its command is that of whoever started it
        before = Path(f"/proc/{process.pid}/cgroup").read_text()
        assert shares.running("a-word-of-its-own") == [process.pid]
        with shares.weighed({"one": shares.Group(pids=[process.pid], weight=50)}) as is_weighed:
            inside = Path(f"/proc/{process.pid}/cgroup").read_text()
        after = Path(f"/proc/{process.pid}/cgroup").read_text()
        process.kill()

    assert (f"sealift-bench-{os.getpid()}-one" in inside) is is_weighed
    assert after == before


def test_a_process_that_tells_in_its_command_what_it_is_is_found_by_a_word_of_that() -> None:
    command = ["one-that-tells: worker [sealift]", "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = shares.running("one-that-tells")
        process.kill()

    assert found == [process.pid]
