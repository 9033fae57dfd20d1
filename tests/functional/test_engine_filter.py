"""An engine whose process is taken over after its model was loaded: what it can still do, and what it cannot.

Attack: a model file or a prompt runs code of an attacker's in the engine's process.
Wanted: another program (a shell), another process, a contact of its own.
Outcome: none of these; the engine goes on answering, and a start of a program ends it, to begin anew.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from appliance import config as configuration
from appliance.config import Config
from appliance.errors import ApplianceError, EngineLoadError
from appliance.serve.client import EngineClient
from tests.support.versions import short_folder, store_version

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "from tests.support import taken_over_engine; taken_over_engine.main()"
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
    with short_folder() as root:
        text = f'site = "s"\nenvironment = "demo"\nprofile = "cpu"\n[places]\nroot = "{root}"\n'
        config = configuration.parse(text.encode())
        config.at.run.mkdir(parents=True)
        config.at.config_file.parent.mkdir(parents=True)
        config.at.config_file.write_text(text)
        yield config


@contextmanager
def running(site: Config, program: str = PROGRAM) -> Iterator[tuple[str, subprocess.Popen[str], socket.socket]]:
    _, descriptor = store_version(site)
    name = f"test-{descriptor.model_digest[:12]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.settimeout(60)
        notices.bind(str(site.at.run / "notify"))
        process = subprocess.Popen(
            [sys.executable, "-c", program, "--config", str(site.at.config_file), "--instance", name],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": notices.getsockname()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield name, process, notices
        finally:
            process.terminate()
            process.communicate(timeout=60)


def wait_ready(notices: socket.socket) -> None:
    while b"READY=1" not in notices.recv(4096):
        pass


def said(client: EngineClient, prompt: str) -> str:
    answer: Any = client.complete({"prompt": prompt, "max_tokens": 16})
    return str(answer["choices"][0]["text"])


def test_an_engine_that_is_taken_over_answers_on_and_can_do_nothing_else(site: Config) -> None:
    with running(site) as (name, _, notices):
        wait_ready(notices)
        with EngineClient(site.at.socket(f"engine-{name}")) as client:
            asked = ("abc", "fork", "socket", "thread", "inside", "told", "xyz")
            told = [said(client, prompt) for prompt in asked]

    # The decoder's thread is older than the filter, which covers it all the same.
    assert told == ["ABC", "REFUSED", "REFUSED", "DONE", "INSIDE", "REFUSED", "XYZ"]


def test_a_start_of_another_program_ends_the_process_and_a_new_one_answers(site: Config) -> None:
    with running(site) as (name, process, notices):
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
    with running(site, FORBIDDEN + PROGRAM) as (_, process, notices):
        told = notices.recv(4096)
        code = process.wait(timeout=60)

    assert code == EngineLoadError.exit_code
    assert told == b"STATUS=engine-load: the engine cannot put on its own filter"
