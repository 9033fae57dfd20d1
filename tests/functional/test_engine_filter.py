"""An engine whose process is taken over after its model was loaded: what it can still do, and what it cannot.

Attack: a model file or a prompt runs code of an attacker's in the engine's process.
Wanted: another program (a shell), another process, a contact of its own.
Outcome: none of these; the engine goes on answering, and a start of a program ends it, to begin anew.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.errors import ApplianceError, EngineLoadError
from appliance.serve.client import EngineClient
from tests.support.engine_process import PROGRAM, engine_site, running_engine, wait_ready

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

ROOT = Path(__file__).resolve().parents[2]
# A filter of somebody else's that forbids to set another, as a unit would that does not allow seccomp.
FORBIDDEN = """
import ctypes, struct, sys
from appliance.serve import engine_filter as filter
machine = filter.MACHINES[filter.platform.machine()]
code = [(0x20, 0, 0, 0), (0x15, 0, 1, machine.seccomp), (0x06, 0, 0, filter.REFUSE), (0x06, 0, 0, filter.ALLOW)]
held = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in code))
described = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(held)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, described) == 0
"""


@pytest.fixture
def site() -> Iterator[Config]:
    with engine_site() as made:
        yield made


def said(client: EngineClient, prompt: str) -> str:
    answer: Any = client.complete({"prompt": prompt, "max_tokens": 16})
    return str(answer["choices"][0]["text"])


def test_an_engine_that_is_taken_over_answers_on_and_can_do_nothing_else(site: Config) -> None:
    with running_engine(site) as (name, _, notices):
        wait_ready(notices)
        with EngineClient(site.at.socket(f"engine-{name}")) as client:
            asked = ("abc", "fork", "socket", "thread", "inside", "told", "xyz")
            told = [said(client, prompt) for prompt in asked]

    # The decoder's thread is older than the filter, which covers it all the same.
    assert told == ["ABC", "REFUSED", "REFUSED", "DONE", "INSIDE", "REFUSED", "XYZ"]


def test_a_start_of_another_program_ends_the_process_and_a_new_one_answers(site: Config) -> None:
    with running_engine(site) as (name, process, notices):
        wait_ready(notices)
        with EngineClient(site.at.socket(f"engine-{name}")) as client:
            with suppress(ApplianceError):
                said(client, "exec")
            wait_ready(notices)
            again = said(client, "abc")
        process.terminate()
        _, journal = process.communicate(timeout=60)

    assert again == "ABC"
    assert signal.Signals.SIGSYS.name in journal


def test_an_engine_that_cannot_narrow_itself_does_not_serve(site: Config) -> None:
    with running_engine(site, program=FORBIDDEN + PROGRAM) as (_, process, notices):
        told = notices.recv(4096)
        code = process.wait(timeout=60)

    assert code == EngineLoadError.exit_code
    assert told == b"STATUS=engine-load: the engine cannot put on its own filter"


# A worker of nobody's, which wants to write into the process that forked it.
WORKER = """
import os, sys
from appliance.serve import engine_filter
os.setresuid(65534, 65534, 65534)
{made}
if os.fork() == 0:
    try:
        os.close(os.open(f"/proc/{{os.getppid()}}/mem", os.O_RDWR))
        os._exit(0)
    except OSError:
        os._exit(1)
_, told = os.wait()
print(os.waitstatus_to_exitcode(told), os.path.exists("/proc/self/fd/0"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_the_memory_of_the_process_that_forked_it_is_out_of_its_reach() -> None:
    # What a test adds to the process has to be dumpable for what a takeover does without `hide`.
    plain = "import ctypes; ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)"
    yama = Path("/proc/sys/kernel/yama/ptrace_scope")
    reaches = "0" if not yama.exists() or yama.read_text().strip() == "0" else "1"
    told = []
    for made in (plain, plain + "; engine_filter.hide()"):
        command = [sys.executable, "-c", WORKER.format(made=made)]
        told.append(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())

    assert told == [[reaches, "True"], ["1", "True"]]
