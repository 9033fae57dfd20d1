"""vLLM behind a site of a test: a version of safetensors as a release brings it, and the launcher that stands by it.

The model is a folder as `tests.engines.smollm2` writes it. The interpreter is one whose environment has vLLM: for
processors, or for GPUs.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from appliance.config import Config
from appliance.errors import UnitError
from appliance.registry.descriptor import ModelDescriptor
from media import canonical
from media.digest import sha256_hex
from tests.support.installable import store_release
from tests.support.supervisor import FakeSupervisor
from tests.support.versions import EngineSupervisor, task_file

_CONTEXT: Final = 2048
RUNTIME: Final = {
    "n_ctx": _CONTEXT,
    "n_batch": 2048,
    "n_seq_max": 64,
    "defaults": {"temperature": "0.2", "top_p": "0.9"},
}
START_SECONDS: Final = 600
_TEMPLATE: Final = "chat_template.jinja"
_ROLES: Final = {".safetensors": "weights"}


def version_files(folder: Path, *, settings: dict[str, Any] | None = None, n_ctx: int = _CONTEXT) -> dict[str, bytes]:
    """Return the files of a release that brings one version for vLLM.

    Args:
        folder: Weights, configuration, tokenizer and chat template.
        settings: What only vLLM asks for, as a descriptor has it.
        n_ctx: Tokens of a question and its answer.
    """
    place = "data/models/small"
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    template = found.pop(_TEMPLATE)
    descriptor = canonical.dumps(
        {
            "format": 1,
            "name": "small",
            "version": "1",
            "engine": "vllm",
            "environment": sha256_hex(b"environment"),
            "files": [
                {
                    "path": f"{place}/{name}",
                    "role": _ROLES.get(Path(name).suffix, "tokenizer" if "token" in name else "config"),
                    "sha256": sha256_hex(content),
                    "length": len(content),
                }
                for name, content in found.items()
            ],
            "chat_template": {"path": f"{place}/{_TEMPLATE}", "sha256": sha256_hex(template)},
            "system_prompt": "",
            "rules": [],
            "runtime": {**RUNTIME, "n_ctx": n_ctx, **({"vllm": settings} if settings else {})},
            "quantization": "BF16",
            "license": "Apache-2.0",
            "context_tokens": n_ctx,
        }
    )
    named = {"name": "small", "descriptor": f"{place}/descriptor.json", "evals": ["data/evals/facts.jsonl"]}
    return {
        **{f"{place}/{name}": content for name, content in found.items()},
        f"{place}/{_TEMPLATE}": template,
        f"{place}/descriptor.json": descriptor,
        "data/evals/facts.jsonl": task_file(),
        "data/release.json": canonical.dumps({"format": 1, "environments": {}, "models": [named]}),
    }


@contextmanager
def launched(
    config: Config, instance: str, *, python: Path, log: Path, within: Sequence[str] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the launcher of one instance until the block ends; entered once it said that it is ready.

    As with a unit, whatever is left of its processes goes with it.

    Args:
        config: Of a site whose store holds the version; the site file must give it `START_SECONDS` to start.
        instance: STAGE-DIGEST12.
        python: Whose environment has vLLM, and this checkout.
        log: Where its stderr goes.
        within: Words that run the words after them elsewhere, in the same process.

    Raises:
        UnitError: It ended before, with the end of its log.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, log.open("wb") as errors:
        place = config.at.run / f"ready-{instance[-6:]}"
        place.unlink(missing_ok=True)
        notices.bind(str(place))
        notices.settimeout(1)
        launcher = [str(python), "-I", "-m", "appliance.serve.launcher"]
        process = subprocess.Popen(
            [*within, *launcher, "--config", str(config.at.config_file), "--instance", instance],
            cwd=config.at.run,
            env={**os.environ, "NOTIFY_SOCKET": str(place)},
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
        ended = threading.Event()
        listener = threading.Thread(target=_listen, args=(notices, ended))
        try:
            _until_ready(process, notices, log)
            listener.start()
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=180)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                ended.set()
                if listener.ident is not None:
                    listener.join()


@contextmanager
def in_test(config: Config, descriptor: ModelDescriptor, *, python: Path) -> Iterator[Path]:
    """Run the launcher of a version in test, and say after how many seconds it was ready; yield the engine's socket.

    Raises:
        UnitError: It ended before.
    """
    instance = f"test-{descriptor.model_digest[:12]}"
    began = time.monotonic()
    with launched(config, instance, python=python, log=config.at.run / "log"):
        sys.stdout.write(f"ready after {time.monotonic() - began:.1f} s\n")
        yield config.at.socket(f"engine-{instance}")


def _listen(notices: socket.socket, ended: threading.Event) -> None:
    """Take what the launcher goes on saying: a full socket would hold it up, and it would hear no signal."""
    while not ended.is_set():
        with suppress(TimeoutError):
            notices.recv(4096)


def _until_ready(process: "subprocess.Popen[bytes]", notices: socket.socket, log: Path) -> None:
    for _ in range(START_SECONDS):
        with suppress(TimeoutError):
            if b"READY=1" in notices.recv(4096):
                return
        if process.poll() is not None:
            break
    raise UnitError(what="vLLM's launcher is not ready", why=log.read_text(errors="replace")[-6000:], fix="")


def store_version(
    config: Config, folder: Path, *, settings: dict[str, Any] | None = None, n_ctx: int = _CONTEXT
) -> ModelDescriptor:
    """Lay the version into the store of a site, as `version_files` has it; return its descriptor."""
    files = version_files(folder, settings=settings, n_ctx=n_ctx)
    store_release(config.at, files)
    return ModelDescriptor.from_bytes(files["data/models/small/descriptor.json"])


class VllmSupervisor(EngineSupervisor):
    """Starts the real launcher behind each production unit; the test stage is a stand-in."""

    def __init__(self, config: Config, *, python: Path, within: Sequence[str] = ()) -> None:
        super().__init__(config)
        self._python, self._within = python, within
        self._contexts: dict[str, Any] = {}
        self.launchers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, unit: str) -> None:
        if "-production@" not in unit:
            super().start(unit)
            return
        FakeSupervisor.start(self, unit)
        if unit not in self._contexts:
            instance = unit.removeprefix("sealift-engine-").removesuffix(".service").replace("@", "-")
            log = self._config.at.run.parent / f"{instance}.log"
            context = launched(self._config, instance, python=self._python, log=log, within=self._within)
            self.launchers[unit] = context.__enter__()
            self._contexts[unit] = context

    def stop(self, unit: str) -> None:
        super().stop(unit)
        self.launchers.pop(unit, None)
        context = self._contexts.pop(unit, None)
        if context is not None:
            context.__exit__(None, None, None)

    def close(self) -> None:
        super().close()
        for unit in list(self._contexts):
            self.stop(unit)
