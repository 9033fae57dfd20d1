"""Starts vLLM for one proven version, and stands by it: ready when it answers, alive while it does, drained at the end.

Every file of the version is hashed through a descriptor that stays open, and vLLM is given a folder of links to these
very descriptors, so what it reads is what was hashed. It gets an environment of its own and nothing of ours.
"""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Self

from appliance import unit
from appliance.config import Config
from appliance.errors import EngineLoadError, EngineUnavailableError
from appliance.registry.contexts import Kept
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve import frommachine, vllm
from appliance.serve.anatomy import CONFIG, of_config
from appliance.serve.client import EngineClient
from appliance.serve.precision import is_single
from appliance.serve.vllm_door import FACTS
from appliance.serve.vllm_requests import Facts, control_tokens
from appliance.serve.weights import HashedFile
from appliance.store.content import StoredRelease
from appliance.watchdog.loops import TURNS_PER_LIMIT
from appliance.watchdog.workers import STOP_SECONDS
from media.errors import SealiftError

_TOKENIZER: Final = "tokenizer.json"
_MAX_TOKENIZER_BYTES: Final = 64 * 2**20
_TEMPLATE: Final = "chat_template.jinja"
_LOOK_SECONDS: Final = 0.5
_END_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A version whose every file was hashed, with the files held open under the names that vLLM looks for."""

    descriptor: ModelDescriptor
    files: dict[str, HashedFile]
    controls: tuple[str, ...]

    def config(self) -> str:
        """Return its `config.json`, once more hashed; empty where it brings none.

        Raises:
            EngineLoadError: It changed, is too long, or is no text.
        """
        named = self.descriptor.file_named(CONFIG)
        if named is None:
            return ""
        return self.files[CONFIG].read_text(named.sha256, max_bytes=_MAX_TOKENIZER_BYTES, name=CONFIG)

    def link_into(self, folder: Path) -> None:
        """Make a folder of links to the open files."""
        folder.mkdir(mode=0o700)
        for name, file in self.files.items():
            (folder / name).symlink_to(file.path)


def prove(stored: StoredRelease, descriptor: ModelDescriptor) -> Proven:
    """Hash every file of a version.

    Raises:
        EngineLoadError: One differs from what the descriptor names, or the profile is out of range; or this
            machine lacks what vLLM takes from it.
    """
    vllm.require_profile(descriptor)
    _require_machine()
    files: dict[str, HashedFile] = {}
    for named in descriptor.files:
        name = Path(named.path).name
        file = files[name] = HashedFile(stored.path_of(named.path), name=name)
        file.require(named.sha256, name=name)
    template = files[_TEMPLATE] = HashedFile(stored.path_of(descriptor.template_path), name="the chat template")
    template.require(descriptor.template_sha256, name="the chat template")
    tokenizer = descriptor.file_named(_TOKENIZER)
    if tokenizer is None:
        raise EngineLoadError(
            what="the version brings no tokenizer.json",
            why="without it nobody knows the names of its control tokens",
            fix="ask the sender for the model with its tokenizer.json",
        )
    text = files[_TOKENIZER].read_text(tokenizer.sha256, max_bytes=_MAX_TOKENIZER_BYTES, name=_TOKENIZER)
    try:
        controls = control_tokens(text.encode())
    except SealiftError as error:
        raise EngineLoadError(what=error.what, why=error.why, fix=error.fix) from error
    return Proven(descriptor=descriptor, files=files, controls=controls)


def _require_machine() -> None:
    """Pass where vLLM finds what it takes from the machine: else it ends a minute later, amid many lines."""
    wheels = frommachine.own_wheels()
    if fault := frommachine.fault(wheels, only_lasting=True):
        raise EngineLoadError(
            what="vLLM would not start here",
            why=fault,
            fix=f"install {frommachine.packages(wheels)}, best by a medium that brings them; `sealift doctor` tries it",
        )


def serve(proven: Proven, *, stage: str, name: str, config: Config, threads: int, notifier: unit.Notifier) -> None:
    """Run vLLM until the supervisor asks this process to stop.

    Args:
        proven: The version.
        stage: test or production.
        name: The instance, for the socket where no supervisor listens.
        config: The site file.
        threads: Decoding threads, where a processor answers.
        notifier: Tells the supervisor.

    Raises:
        EngineLoadError: vLLM ended before it was ready, or was not in time.
        EngineUnavailableError: It ended later, or stopped answering; or memory is short now.
    """
    with tempfile.TemporaryDirectory(prefix="sealift-vllm-") as scratch, _listener(config, name) as listener:
        folder = Path(scratch)
        private = folder / "vllm.sock"
        proven.link_into(folder / "model")
        facts = folder / "facts.json"
        facts.write_bytes(_facts(proven, stage, listener).to_bytes())
        on_processor = vllm.is_for_processors()
        settings = vllm.require_profile(proven.descriptor)
        one_process = vllm.is_one_process(settings, on_processor=on_processor)
        free = _free()
        weights = proven.descriptor.weights_bytes
        in_single = on_processor and is_single(settings, weights_bytes=weights, free_bytes=free)
        if on_processor and vllm.over_ray() is None:
            vllm.require_room(proven.descriptor, Kept.of_config(proven.config()), free_bytes=free, in_single=in_single)
        process = subprocess.Popen(
            vllm.arguments(
                Path(sys.executable),
                folder / "model",
                folder / "model" / _TEMPLATE,
                private,
                descriptor=proven.descriptor,
                on_processor=on_processor,
                in_single=in_single,
            ),
            cwd=folder,
            env={
                **vllm.environment(
                    folder,
                    threads=threads,
                    free_bytes=free,
                    on_processor=on_processor,
                    one_process=one_process,
                    in_single=in_single,
                ),
                FACTS: str(facts),
            },
            stdin=subprocess.DEVNULL,
            pass_fds=(listener.fileno(),),
        )
        with _Stopping() as stopping, EngineClient(private, connect_seconds=5.0, read_seconds=30.0) as engine:
            try:
                _until_ready(process, engine, stopping, seconds=config.engine.start_seconds, notifier=notifier)
                _stand_by(process, engine, stopping, notifier=notifier)
            finally:
                _end(process, engine, drains=stopping.asked)


class _Stopping:
    """Notes that the supervisor asked this process to stop."""

    def __init__(self) -> None:
        self._event = unit.Ending()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._event.set()

    @property
    def asked(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        self._event.wait(seconds)


@contextmanager
def _listener(config: Config, name: str) -> Iterator[socket.socket]:
    """Yield the socket that callers come to: the supervisor's, else one of our own."""
    given = list(unit.listening_sockets().values())
    if given:
        listener = given[0]
    else:
        path = config.at.socket(f"engine-{name}")
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(1024)
    with listener:
        yield listener


def _facts(proven: Proven, stage: str, listener: socket.socket) -> Facts:
    descriptor = proven.descriptor
    return Facts(
        model_digest=descriptor.model_digest,
        weights_digest=descriptor.weights_digest,
        stage=stage,
        n_ctx=descriptor.runtime.n_ctx,
        system_prompt=descriptor.system_prompt,
        temperature=descriptor.runtime.temperature,
        top_p=descriptor.runtime.top_p,
        controls=proven.controls,
        listener=listener.fileno(),
        thinks=bool(descriptor.runtime.vllm and descriptor.runtime.vllm.reasoning_parser),
        calls=bool(descriptor.runtime.vllm and descriptor.runtime.vllm.tool_call_parser),
        model=of_config(proven.config()).to_json(),
    )


def _free() -> int:
    with Path("/proc/meminfo").open() as lines:
        found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else 0


def _until_ready(
    process: "subprocess.Popen[bytes]",
    engine: EngineClient,
    stopping: _Stopping,
    *,
    seconds: float,
    notifier: unit.Notifier,
) -> None:
    until = time.monotonic() + seconds
    while not stopping.asked:
        if process.poll() is not None:
            raise EngineLoadError(
                what="vLLM ended before it was ready",
                why=f"exit {process.returncode}",
                fix="see the journal of the engine's unit; `sealift doctor` names what is short",
            )
        if engine.health():
            notifier.tell("READY=1")
            return
        if time.monotonic() > until:
            raise EngineLoadError(
                what="vLLM was not ready in time",
                why=f"after {seconds:.0f} seconds",
                fix="give it longer: engine.start_seconds in the site file",
            )
        _alive(notifier)
        stopping.wait(_LOOK_SECONDS)


def _stand_by(
    process: "subprocess.Popen[bytes]", engine: EngineClient, stopping: _Stopping, *, notifier: unit.Notifier
) -> None:
    turn = unit.watchdog_seconds() / TURNS_PER_LIMIT or _LOOK_SECONDS
    looked = time.monotonic()
    while not stopping.asked:
        if process.poll() is not None:
            raise EngineUnavailableError(
                what="vLLM ended", why=f"exit {process.returncode}", fix="see the journal of the engine's unit"
            )
        if time.monotonic() - looked >= turn:
            looked = time.monotonic()
            if engine.health():  # else the supervisor's watchdog ends all of it
                _alive(notifier)
        stopping.wait(_LOOK_SECONDS)


def _alive(notifier: unit.Notifier) -> None:
    with suppress(OSError):
        notifier.tell("WATCHDOG=1")


def _end(process: "subprocess.Popen[bytes]", engine: EngineClient, *, drains: bool) -> None:
    """Let what runs come to its end, for a while; then end vLLM and all its processes."""
    if drains and process.poll() is None:
        process.send_signal(signal.SIGUSR1)
        until = time.monotonic() + STOP_SECONDS
        with suppress(SealiftError):
            while process.poll() is None and time.monotonic() < until and engine.running():
                time.sleep(0.05)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
