"""The real engine and the real small model that `make demo` left in build/demo, for versions that tests make of them.

A supervisor starts the launcher as a unit would: from the environment that the demo installed, over a site in a short
folder, and starts it again when it was killed.
"""

import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from appliance.config import Config
from appliance.errors import UnitError
from appliance.install.supervisor import UnitFacts, UnitState, engine_of, require_unit_name

ROOT: Final = Path(__file__).resolve().parents[2]
DEMO: Final = Path(os.environ.get("SEALIFT_DEMO", str(ROOT / "build/demo")))
_PROGRAM: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); from appliance.serve.launcher import main; main()"


def shipped_weights() -> bytes:
    """Return the GGUF file that the demo carried; the test is skipped where no demo ran."""
    found = sorted((DEMO / "media").glob("volume-*/release/data/models/smollm2-135m-instruct/*.gguf"))
    if not found:
        pytest.skip("there is no demo; run make demo")
    return found[0].read_bytes()


def told_by(program: str, folder: Path) -> dict[str, Any]:
    """Run a program in the shipped engine's environment; return the JSON of its line that begins with ``FOUND ``.

    Its words are the checkout's root and the path of the shipped weights, which are laid down in the folder.
    """
    weights = folder / "weights.gguf"
    weights.write_bytes(shipped_weights())
    return run_program(program, weights, seconds=240)


def run_program(program: str, weights: Path, *, seconds: float) -> dict[str, Any]:
    """Run a program as `told_by` does, about any weights."""
    python = max((DEMO / "appliance/opt/sealift/releases").glob("*/engine-llama-cpp/bin/python"))
    done = subprocess.run(
        [python, "-I", "-c", program, str(ROOT), str(weights)],
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    return dict(json.loads(line.removeprefix("FOUND ")))


def shipped_template() -> bytes:
    """Return the chat template that the demo carried."""
    found = sorted((DEMO / "media").glob("volume-*/release/data/models/*/*.jinja"))
    if not found:
        pytest.skip("there is no demo; run make demo")
    return found[0].read_bytes()


def shipped_tasks() -> bytes:
    """Return the task set of the demo."""
    return (ROOT / "examples/evals/demo-tasks.jsonl").read_bytes()


class RealSupervisor:
    """Starts engines as processes; a site file is written, unless the site has one."""

    def __init__(self, config: Config, *, threads: int = 1) -> None:
        self._config = config
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        if config.at.config_file.exists():
            return
        text = (
            f'format = 1\nsite = "{config.site}"\nenvironment = "demo"\n[places]\nroot = "{config.places.root}"\n'
            f"[engine]\nthreads = {threads}\n"
        )
        config.at.config_file.parent.mkdir(parents=True, exist_ok=True)
        config.at.config_file.write_text(text)
        config.at.run.mkdir(parents=True, exist_ok=True)

    def start(self, unit: str) -> None:
        engine = engine_of(require_unit_name(unit))
        if unit in self._running or engine is None:
            return
        name = f"{engine[0]}-{engine[1]}"
        notify = self._config.at.run / f"n-{engine[1]}"
        notify.unlink(missing_ok=True)
        python = max((DEMO / "appliance/opt/sealift/releases").glob("*/engine-llama-cpp/bin/python"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.bind(str(notify))
            notices.settimeout(1)
            process = subprocess.Popen(
                [python, "-I", "-c", _PROGRAM, str(ROOT), "--config", self._config.at.config_file, "--instance", name],
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(notify), "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._running[unit] = process
            for _ in range(300):
                with suppress(TimeoutError):
                    if b"READY=1" in notices.recv(4096):
                        return
                if process.poll() is not None:
                    break
        self.stop(unit)
        raise UnitError(what=f"{unit} did not start", why="the engine did not become ready", fix="none")

    def stop(self, unit: str) -> None:
        process = self._running.pop(unit, None)
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)

    def rest(self, unit: str) -> None:
        self.stop(unit)

    def kill(self, unit: str) -> None:
        if unit not in self._running:
            raise UnitError(what=f"{unit} cannot be killed", why="it does not run", fix="none")
        self.stop(unit)
        self.start(unit)

    def state(self, unit: str) -> UnitState:
        return UnitState.ACTIVE if require_unit_name(unit) in self._running else UnitState.INACTIVE

    def units(self) -> tuple[UnitFacts, ...]:
        return tuple(UnitFacts(name=unit, state=UnitState.ACTIVE) for unit in self._running)

    def close(self) -> None:
        """End every engine."""
        for unit in list(self._running):
            self.stop(unit)
