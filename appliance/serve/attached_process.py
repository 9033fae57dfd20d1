"""Starts an attached engine for one proven version, or finds the one that somebody runs for the test stage.

Every file of the version, and the program, are hashed through descriptors that stay open; the program is run by its
descriptor, and it is given links to the others, so what runs and what it reads is what was hashed. It listens on a
socket in a private folder. What it writes is read by nobody once it has heard a prompt.
"""

import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from appliance.config import Config
from appliance.errors import EngineLoadError, EngineProtocolError, EngineRefusedError, EngineUnavailableError
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve.anatomy import CONFIG, UNTOLD, Anatomy, of_config, of_gguf
from appliance.serve.application import Serving, create_engine_app
from appliance.serve.asking import RefusedError
from appliance.serve.attached import AttachedScheduler, AttachedTokens
from appliance.serve.attached_dialect import Dialect, LlamaServer, require_settings_taken
from appliance.serve.attached_openai import OpenAI
from appliance.serve.attached_peer import Address, Peer
from appliance.serve.attached_sglang import Sglang
from appliance.serve.attached_text import OpenAIText
from appliance.serve.attached_tokens import SETTINGS, LocalTokens, ends_of
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.engine import Decoder
from appliance.serve.scheduler import Scheduler
from appliance.serve.weights import HashedFile
from appliance.store.content import StoredRelease
from appliance.throwaway import Throwaway
from media import gguf_vocabulary
from media.attachedprofile import TOKENIZER, AttachedSettings
from media.clock import SystemClock
from media.gguf_vocabulary import Vocabulary

CALLS: Final = frozenset({"socket", "connect"})
"""What answering needs of the kernel that an engine's filter would take away (`engine_filter`)."""
_MAX_TEMPLATE_BYTES: Final = 256 * 1024
_MAX_TOKENIZER_BYTES: Final = 64 * 1024 * 1024
_LOOK_SECONDS: Final = 0.1
_END_SECONDS: Final = 5.0
_KEPT_BYTES: Final = 4096
_KEPT: Final = ("PATH", "LANG", "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
_AIRTIGHT: Final[Mapping[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "LLAMA_OFFLINE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_PROBE: Final = ("The capital of France is", " xylophone")
_GREETING: Final = ({"role": "user", "content": "Good morning."},)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenPeer:
    """A version whose every file was hashed and is held open, with the program that serves it, where it brings one."""

    descriptor: ModelDescriptor
    settings: AttachedSettings
    files: dict[str, HashedFile]
    template: str
    program: HashedFile | None

    def read(self, name: str) -> str:
        """Return a file of the version as text, once more hashed.

        Raises:
            EngineLoadError: The version brings none of that name, or it changed, is too long, or is no text.
        """
        named = self.descriptor.file_named(name)
        if named is None:
            raise EngineLoadError(
                what=f"the version brings no {name}",
                why="without it nobody here can count tokens for its engine",
                fix=f"ask the sender for the model with its {name}",
            )
        return self.files[name].read_text(named.sha256, max_bytes=_MAX_TOKENIZER_BYTES, name=name)

    def link_into(self, folder: Path) -> Path:
        """Make a folder of links to the open files; return what a program opens: the one file of weights, or all."""
        folder.mkdir(mode=0o700)
        for name, file in self.files.items():
            (folder / name).symlink_to(file.path)
        weights = self.descriptor.weights
        is_one = len(weights) == 1 and weights[0].path.endswith(".gguf")
        return folder / Path(weights[0].path).name if is_one else folder


def require_content_addressed(descriptor: ModelDescriptor, stage: str) -> None:
    """Pass when the release brings the program that answers, or the stage is not production.

    Raises:
        EngineLoadError: Nobody can say what would answer in production.
    """
    if stage == "production" and not descriptor.is_content_addressed:
        raise EngineLoadError(
            what=f"version {descriptor.model_digest[:12]} is not content-addressed",
            why="it is answered by a program that no release brought; such a one serves the test stage alone",
            fix="ask the sender for a release that brings the engine's program: models.runtime.attached",
        )


def prove(stored: StoredRelease, descriptor: ModelDescriptor) -> ProvenPeer:
    """Hash every file of a version, and its program.

    Raises:
        EngineLoadError: One differs from what the descriptor names, or is not there.
    """
    settings = descriptor.runtime.attached
    if settings is None:
        raise EngineLoadError(what="the version is not attached", why=descriptor.engine, fix="use its own unit")
    files: dict[str, HashedFile] = {}
    for named in descriptor.files:
        name = Path(named.path).name
        file = files[name] = HashedFile(stored.path_of(named.path), name=name)
        file.require(named.sha256, name=name)
    template = HashedFile(stored.path_of(descriptor.template_path), name="the chat template")
    text = template.read_text(descriptor.template_sha256, max_bytes=_MAX_TEMPLATE_BYTES, name="the chat template")
    template.close()
    program = None
    if settings.program:
        program = HashedFile(Path(sys.prefix) / settings.program, name="the engine's program")
        program.require(settings.program_sha256, name="the engine's program")
    return ProvenPeer(descriptor=descriptor, settings=settings, files=files, template=text, program=program)


def end_group(leader: int) -> None:
    """End whatever is left of a process's group at once."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


class PeerGroup:
    """Which peer a worker started, in memory that the launcher has, too.

    A unit takes all its processes down when it ends. Where there is none, or where one worker replaces another, what a
    killed worker's peer started would stay, with the weights in memory.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def note(self, leader: int) -> None:
        """Note the leader of a group, in the worker that started it."""
        self._memory[:8] = leader.to_bytes(8, "little")

    def end(self) -> None:
        """End what is left of the group that was noted last, once; for when its worker has ended."""
        leader = int.from_bytes(self._memory[:8], "little")
        self._memory[:8] = bytes(8)
        if leader:
            end_group(leader)


class PeerProcess:
    """A supervised peer: a process of its own with a folder of its own."""

    def __init__(self, proven: ProvenPeer, *, threads: int, group: PeerGroup | None = None) -> None:
        # Where a worker was killed, what it left goes as the next one starts: links to the weights, never a copy.
        self._folder = Throwaway("sealift-attached-")
        folder = self._folder.path
        runtime, socket = proven.descriptor.runtime, folder / "peer.sock"
        self.address = Address(path=str(socket))
        values = {
            "{socket}": str(socket),
            "{model}": str(proven.link_into(folder / "model")),
            "{n_ctx}": str(runtime.n_ctx),
            "{n_batch}": str(runtime.n_batch),
            "{n_seq_max}": str(runtime.n_seq_max),
            "{threads}": str(threads),
        }
        what = ("module", proven.settings.module) if proven.program is None else ("program", str(proven.program.path))
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-m", "appliance.serve.attached_start", str(os.getpid()), *what),
                *proven.settings.filled(values),
            ],
            cwd=folder,
            env=dict(_environment(folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            umask=0o077,
            start_new_session=True,
        )
        if group is not None:
            group.note(self._process.pid)
        self._said = b""
        self._listens = True
        self._reader = threading.Thread(target=self._read, name="attached-said", daemon=True)
        self._reader.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def until_well(self, peer: Peer, *, seconds: float) -> None:
        """Wait until it says that it is well.

        Raises:
            EngineUnavailableError: It ended before, or was not in time; another try may find it otherwise.
        """
        until = time.monotonic() + seconds
        while not peer.is_well():
            if not self.is_running:
                self._reader.join(_END_SECONDS)
                # It has heard no prompt yet, so its last words hold none.
                sys.stderr.write(self._said.decode(errors="replace") + "\n")
                raise EngineUnavailableError(
                    what="the attached engine ended before it was ready",
                    why=f"exit {self._process.returncode}",
                    fix="see the journal of the engine's unit; `sealift doctor` names what is short",
                )
            if time.monotonic() > until:
                raise EngineUnavailableError(
                    what="the attached engine was not ready in time",
                    why=f"after {seconds:.0f} seconds",
                    fix="give it longer: engine.start_seconds in the site file",
                )
            time.sleep(_LOOK_SECONDS)
        self._listens, self._said = False, b""

    def on_end(self, do: Callable[[], None]) -> None:
        """Do something once it has ended."""

        def wait() -> None:
            self._process.wait()
            do()

        threading.Thread(target=wait, name="attached-ended", daemon=True).start()

    def end(self) -> None:
        """End it with the processes that it started, and remove its folder."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        # Where it ended without them, they hold the weights in memory still.
        end_group(self._process.pid)
        self._process.wait()
        with suppress(OSError):  # what the peer laid down there may not be ours to remove
            self._folder.remove()

    def _read(self) -> None:
        pipe = self._process.stderr
        while pipe is not None and (part := os.read(pipe.fileno(), 65536)):
            if self._listens:
                self._said = (self._said + part)[-_KEPT_BYTES:]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPeer:
    """An attached engine that answers: its WSGI application, and whether it is well."""

    app: Any
    turns: Callable[[float], bool]
    process: PeerProcess | None


def load(proven: ProvenPeer, *, stage: str, threads: int, config: Config, group: PeerGroup | None = None) -> LoadedPeer:
    """Start the version's program, or find the socket that the site file names, and ask whether it keeps its contract.

    Raises:
        EngineLoadError: It does not answer as it should, or may not serve this stage.
        EngineUnavailableError: It did not start, or went away; its unit tries again.
    """
    descriptor = proven.descriptor
    require_content_addressed(descriptor, stage)
    process = PeerProcess(proven, threads=threads, group=group) if proven.settings.is_content_addressed else None
    seconds = config.engine.start_seconds
    peer = Peer(_of_the_site(config) if process is None else process.address, whole_seconds=seconds)
    try:
        with ExitStack() as undone:
            if process is not None:
                undone.callback(process.end)
                process.until_well(peer, seconds=seconds)
            loaded = _load(proven, peer, process, stage=stage)
            undone.pop_all()
            return loaded
    except (EngineProtocolError, EngineRefusedError, RefusedError) as error:
        why, fix = (
            (error.message, "choose another version")
            if isinstance(error, RefusedError)
            else (f"{error.what}: {error.why}", error.fix)
        )
        raise EngineLoadError(what="the attached engine does not answer as it should", why=why, fix=fix) from error


def _load(proven: ProvenPeer, peer: Peer, process: PeerProcess | None, *, stage: str) -> LoadedPeer:
    descriptor, runtime = proven.descriptor, proven.descriptor.runtime
    vocabulary = _vocabulary_of(proven)
    dialect = _dialect_of(proven, peer, vocabulary)
    dialect.require_fit(context_tokens=runtime.n_ctx)
    tokens = AttachedTokens(dialect)
    scheduler = AttachedScheduler(
        peer,
        dialect,
        context_tokens=runtime.n_ctx,
        places=runtime.n_seq_max,
        is_running=lambda: process is None or process.is_running,
    )
    start, end = _ends_of(proven, vocabulary)
    clock = SystemClock()
    serving = Serving.of(descriptor, stage=stage, takes=dialect.takes)
    prompt, unlikely = (tokens.tokenize(text, special=False) for text in _PROBE)
    if not prompt or not unlikely:
        raise EngineLoadError(
            what="the vocabulary has no English letters",
            why="nothing can be tried with it",
            fix="choose another version",
        )
    prompt = [*tokens.opening, *prompt]
    template = ChatTemplate(proven.template, bos=start, eos=end, clock=clock)
    require_settings_taken(dialect, prompt, serving)
    with suppress(EngineProtocolError):  # a template may want other messages than one greeting
        require_settings_taken(dialect, template.tokens(_GREETING, tokens), serving)
    scheduler.require_unbiased(prompt, unlikely[-1])
    app = create_engine_app(
        serving,
        # The application asks a decoder for tokens and grammars alone, and a scheduler for what this one has.
        decoder=cast("Decoder", tokens),
        scheduler=cast("Scheduler", scheduler),
        template=template,
        clock=clock,
        anatomy=_anatomy_of(proven),
    )
    return LoadedPeer(app=app, turns=scheduler.turns, process=process)


def _ends_of(proven: ProvenPeer, vocabulary: Vocabulary | None) -> tuple[str, str]:
    """Return the texts of the tokens that begin and end a sequence, for its template; empty where nobody says."""
    if vocabulary is not None:
        return vocabulary.start, vocabulary.end
    return ("", "") if proven.descriptor.file_named(SETTINGS) is None else ends_of(proven.read(SETTINGS))


def _vocabulary_of(proven: ProvenPeer) -> Vocabulary | None:
    weights = _gguf_of(proven)
    return None if weights is None else gguf_vocabulary.read(weights)


def _anatomy_of(proven: ProvenPeer) -> Anatomy:
    if weights := _gguf_of(proven):
        return of_gguf(weights)
    return of_config(proven.read(CONFIG)) if CONFIG in proven.files else UNTOLD


def _gguf_of(proven: ProvenPeer) -> Path | None:
    weights = proven.descriptor.gguf
    return None if weights is None else Path(proven.files[Path(weights.path).name].path)


def _dialect_of(proven: ProvenPeer, peer: Peer, vocabulary: Vocabulary | None) -> Dialect:
    """Return the words of a version's engine.

    Raises:
        EngineLoadError: The launcher has to count tokens and cannot.
    """
    model = proven.descriptor.model_digest
    if not proven.settings.is_counted_here:
        named = None if vocabulary is None else frozenset((*vocabulary.control, *vocabulary.defined)) or None
        return LlamaServer(peer, model=model, named=named)
    tokens = LocalTokens(proven.read(TOKENIZER))
    if proven.settings.dialect == "sglang":
        return Sglang(peer, tokens, model=model)
    return (OpenAI if proven.settings.dialect == "openai" else OpenAIText)(peer, tokens)


def _of_the_site(config: Config) -> Address:
    if not config.engine.attached:
        raise EngineLoadError(
            what="nobody said where the attached engine listens",
            why="the version brings no program, and the site file has no engine.attached",
            fix='set engine.attached in the site file, e.g. "unix:/run/other/engine.sock"',
        )
    return Address.parse(config.engine.attached)


def _environment(folder: Path) -> Iterator[tuple[str, str]]:
    yield from ((key, os.environ[key]) for key in _KEPT if key in os.environ)
    yield from (("HOME", str(folder)), ("TMPDIR", str(folder)), ("XDG_CACHE_HOME", str(folder / "cache")))
    yield from _AIRTIGHT.items()
