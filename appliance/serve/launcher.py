"""Starts one engine: finds its version in the store, checks that it may serve in this stage, proves the bytes, loads.

Rules:
    SERVE-1 In production only a digest whose approvals verify again now is loaded, by a process that replaces one too.
    SERVE-2 Every file is hashed through the descriptor that is then mapped.
    SERVE-3 The template comes from the promoted profile, never from the weights.
    SERVE-4 What is refused ends the unit with the error's own exit code, also from the worker, so that systemd does not
            try again what cannot become right; a worker that is killed again and again ends it too.
    SERVE-5 It is ready only behind the filter of its own that takes other programs away from it, its master's memory
            included (`engine_filter`); vLLM starts programs all its life and has the unit's walls alone
            (`vllm_process`). Before an attached engine the filter leaves contacts in, since each question is one; its
            program has the unit's walls alone.
"""

import argparse
import atexit
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from gunicorn.app.base import BaseApplication

from appliance import config as configuration
from appliance import unit
from appliance.config import Config
from appliance.errors import EngineLoadError, EngineUnavailableError
from appliance.promote.standing import require_loadable, sharers_of
from appliance.registry.carriers import carrier
from appliance.registry.descriptor import ModelDescriptor, ModelFile
from appliance.serve import attached_process, debugging, engine_filter, keptsteps, vllm_process
from appliance.serve.anatomy import of_gguf
from appliance.serve.application import Serving, create_engine_app
from appliance.serve.attached_process import PeerGroup, ProvenPeer
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.drafting import Drafter
from appliance.serve.embedding import Embedding
from appliance.serve.instance import Instance
from appliance.serve.keptsteps import Kept
from appliance.serve.refusal import Refusal, tell
from appliance.serve.scheduler import Scheduler
from appliance.serve.weights import HashedFile
from appliance.store.content import ContentStore, StoredRelease
from appliance.watchdog import leaving
from appliance.watchdog.loops import TURNS_PER_LIMIT
from appliance.watchdog.workers import HEARTBEATS, STOP_SECONDS, WorkerWatch
from media.clock import SystemClock
from media.errors import SealiftError

# What the libraries of NVIDIA's and AMD's cards read: with a backend for GPUs llama.cpp may use one for large steps,
# even where no layer lies on it.
_VISIBLE: Final = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_MAX_TEMPLATE_BYTES: Final = 256 * 1024
HEADROOM: Final = 16
"""Threads beyond those of answers: whether an engine is well, and what a prompt has of tokens, waits for no answer."""
LEAST_THREADS: Final = 64
"""Gates ask more at once than a small site's callers may."""
KEPT_CONNECTIONS: Final = 1000
"""Connections beyond those that are answered: gateways keep some open between two requests."""
CALIBRATION_SECONDS: Final = 2.0
"""How long an engine measures steps of several answers after loading, where it does; see `curve.measure`."""
MOST_WORKERS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Loadable:
    """A version whose bytes were proven, with its files held open."""

    descriptor: ModelDescriptor
    weights: HashedFile
    template: str
    embedding: HashedFile | None = None
    draft: HashedFile | None = None


def prove(store: ContentStore, instance: Instance, config: Config) -> Loadable | ProvenPeer:
    """Check approval and bytes; see the module's rules.

    Raises:
        EngineLoadError: The bytes differ, or the engine kind is not served here.
        NotPromotedError: The stage is production and the approvals do not verify.
    """
    stored, descriptor, _ = carrier(store, instance.digest_prefix)
    _require_approved(descriptor, instance, config)
    if descriptor.engine == "attached":
        attached_process.require_content_addressed(descriptor, instance.stage)
        return attached_process.prove(stored, descriptor)
    if descriptor.engine != "llama.cpp" or len(descriptor.weights) != 1:
        raise EngineLoadError(
            what="llama.cpp's engine serves one GGUF file",
            why=f"the version needs {descriptor.engine}",
            fix="use its own unit",
        )
    weights_file = descriptor.weights[0]
    weights = HashedFile(stored.path_of(weights_file.path), name="the weights file")
    weights.require(weights_file.sha256, name="the weights file")
    template = HashedFile(stored.path_of(descriptor.template_path), name="the chat template")
    text = template.read_text(descriptor.template_sha256, max_bytes=_MAX_TEMPLATE_BYTES, name="the chat template")
    template.close()
    own, draft = descriptor.embedding_weights, descriptor.draft_weights
    return Loadable(
        descriptor=descriptor,
        weights=weights,
        template=text,
        embedding=weights if own == weights_file else _beside(stored, own, "the weights for embeddings"),
        draft=_beside(stored, draft, "the weights of the draft model"),
    )


def _beside(stored: StoredRelease, file: ModelFile | None, name: str) -> HashedFile | None:
    if file is None:
        return None
    found = HashedFile(stored.path_of(file.path), name=name)
    found.require(file.sha256, name=name)
    return found


def _require_approved(descriptor: ModelDescriptor, instance: Instance, config: Config) -> None:
    if instance.stage == "production":
        require_loadable(
            config.at, descriptor.model_digest, approvals=config.policy.approvals, counting=config.policy.classes
        )


def threads_for(config: Config, instance: Instance | None = None) -> int:
    """Return the decode threads: as configured, else all cores but one (a stalled barrier costs a step 100-fold).

    Where the unit gave the engine fewer cores already (CPUAffinity=), those. Lines of production, and engines that are
    alike, share them; one that is asked only when those are full or out has as many as one, or all on behalf of GPUs.

    Raises:
        NotPromotedError: The chain of promotions, which says how many lines there are, is broken.
    """
    left = min(len(os.sched_getaffinity(0)), (os.cpu_count() or 2) - 1)
    if config.engine.threads or instance is None or instance.stage != "production" or instance.is_on_processor:
        return config.engine.threads or max(1, left)
    return max(1, left // sharers_of(config.at, instance.digest_prefix, config.engines.production.count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model in this process: its WSGI application, whether its thread still comes round, what calls it needs."""

    app: Any
    turns: Callable[[float], bool]
    calls: frozenset[str] = frozenset()


def load(loadable: Loadable, *, stage: str, kept: Kept, on_processor: bool = False, debug_until: str = "") -> Loaded:
    """Load the model in this process.

    Args:
        loadable: What was proven.
        stage: What it says of itself.
        kept: How many threads decode, and what is known of how long their steps take.
        on_processor: Whether no layer is to lie on a GPU, whatever the version's profile says.
        debug_until: Until when it tells what it does; see `debugging`.

    Raises:
        EngineLoadError: The engine's library is not in this environment, or it refuses the model.
    """
    try:
        from appliance.serve.llama_cpp import LlamaCppDecoder
    except ImportError as error:
        raise EngineLoadError(
            what="the engine's library cannot be loaded",
            why=f"{error.name or 'a library'} is not in this environment, or does not fit the machine",
            fix="see `sealift doctor`; install the release again",
        ) from error

    descriptor, clock, threads = loadable.descriptor, SystemClock(), kept.threads
    runtime = descriptor.runtime
    llama = runtime.llama
    if on_processor:
        llama = replace(llama, n_gpu_layers=0, num_gpu=0, main_gpu=0, tensor_split=())
    decoder = LlamaCppDecoder(
        loadable.weights.path,
        n_ctx=runtime.n_ctx,
        n_batch=runtime.n_batch,
        n_seq_max=runtime.n_seq_max,
        threads=threads,
        settings=llama,
    )
    drafter = None
    if loadable.draft is not None:
        small = LlamaCppDecoder(
            loadable.draft.path,
            n_ctx=runtime.request_tokens,
            n_batch=runtime.n_batch,
            n_seq_max=1,
            threads=threads,
            settings=replace(llama, kv_unified=True),
        )
        drafter = Drafter.beside(decoder, small, most=llama.draft_tokens, clock=clock)
    scheduler = Scheduler(decoder, drafter=drafter)
    say, seconds = sys.stderr.write, CALIBRATION_SECONDS
    scheduler.calibrate(lambda own: keptsteps.taken(kept, own, clock=clock, seconds=seconds, say=say))
    debugging.begin(scheduler, debug_until)
    embedding = None
    if runtime.embedding is not None and loadable.embedding is not None:
        from appliance.serve.embedding_llama import LlamaCppEmbedder

        embedder = LlamaCppEmbedder(loadable.embedding.path, runtime.embedding, threads=threads)
        embedding = Embedding(embedder=embedder, scheduler=scheduler, model_digest=descriptor.model_digest)
    app = create_engine_app(
        Serving.of(descriptor, stage=stage, shorten=runtime.llama if runtime.llama.num_keep else None),
        decoder=decoder,
        scheduler=scheduler,
        template=ChatTemplate(loadable.template, bos=decoder.start, eos=decoder.end, clock=clock),
        clock=clock,
        embedding=embedding,
        anatomy=of_gguf(loadable.weights.path),
        coming=scheduler.coming,
    )
    return Loaded(app=app, turns=scheduler.turns)


def _attach(proven: ProvenPeer, *, stage: str, threads: int, config: Config, group: PeerGroup) -> Loaded:
    peer = attached_process.load(proven, stage=stage, threads=threads, config=config, group=group)
    if peer.process is not None:
        # Without it there is nobody to answer: the worker ends, and the one that replaces it starts another.
        peer.process.on_end(lambda: os.kill(os.getpid(), signal.SIGTERM))
        # It has time to end well; what is left of it, the master ends.
        atexit.register(peer.process.end)
    return Loaded(app=peer.app, turns=peer.turns, calls=attached_process.CALLS)


class Proven:
    """What each worker process may load: the first what was proven at the start, one that replaces it proven anew."""

    def __init__(
        self,
        first: Loadable | ProvenPeer,
        again: Callable[[], Loadable | ProvenPeer],
        *,
        say: Callable[[str], None] = unit.notify,
    ) -> None:
        self._first = first
        self._again = again
        self._say = say
        self._workers = 0

    def before_fork(self, _server: object, _worker: object) -> None:
        """Count a worker; gunicorn calls this in its master.

        Raises:
            SystemExit: So many were killed that another would be, too; memory is the usual reason.
        """
        self._workers += 1
        if isinstance(self._first, Loadable):
            engine_filter.hide()
        if self._workers > MOST_WORKERS:
            error = EngineUnavailableError(
                what="the engine's process was killed again and again",
                why=f"{MOST_WORKERS} times since the unit started",
                fix="see `sealift doctor`: it names what is short",
            )
            tell(error, self._say)
            raise SystemExit(error.exit_code)  # gunicorn would make another number of any other exception

    def take(self) -> Loadable | ProvenPeer:
        """Return what this worker loads.

        Raises:
            EngineLoadError, NotPromotedError: As `prove`.
        """
        return self._first if self._workers <= 1 else self._again()


class _EngineServer(BaseApplication):  # type: ignore[misc] # gunicorn carries no types
    def __init__(self, make: Callable[[], Any], options: dict[str, Any]) -> None:
        self._make = make
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for key, value in self._options.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        return self._make()


def answering_threads(config: Config) -> int:
    """Return how many threads answer at an engine's socket: each answer has one from its beginning to its end.

    They are begun as they are needed. The unit's `TasksMax=` has room for as many as a site file can ask for.
    """
    return max(config.limits.concurrent_requests + HEADROOM, LEAST_THREADS)


def main() -> NoReturn:
    """Entry point of sealift-engine-STAGE@.service."""
    parser = argparse.ArgumentParser(prog="appliance.serve.launcher")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("--instance", required=True)
    arguments = parser.parse_args()
    notifier, refusal, master = unit.Notifier(), Refusal(), os.getpid()
    try:
        _serve(arguments.config, arguments.instance, refusal, notifier)
    except SealiftError as error:
        tell(error, notifier.tell)
        raise SystemExit(error.exit_code) from error
    except SystemExit as ended:
        if os.getpid() != master:
            raise  # a worker: by gunicorn's own number its master knows that another would not load either
        if refusal.code:
            with suppress(OSError):
                notifier.tell(f"STATUS={refusal.status}")
        # gunicorn ends with a number of its own when its worker could not load.
        raise SystemExit(refusal.code or ended.code) from ended
    raise SystemExit(0)


def _serve(config_file: Path, name: str, refusal: Refusal, notifier: unit.Notifier) -> None:
    config = configuration.load(config_file)
    instance = Instance.parse(name)
    store = ContentStore(config.at.store)
    stored, descriptor, _ = carrier(store, instance.digest_prefix)
    if instance.is_on_processor:
        if descriptor.engine != "llama.cpp":
            raise EngineLoadError(
                what=f"{descriptor.engine} has no engine on the processor beside its GPUs",
                why="another build would answer than the one that was validated",
                fix="take `overflow` out of `engines.production` in the site file",
            )
        os.environ.update(dict.fromkeys(_VISIBLE, "-1"))
    if descriptor.engine == "vllm":
        _require_approved(descriptor, instance, config)
        version = vllm_process.prove(stored, descriptor)
        threads = threads_for(config, instance)
        vllm_process.serve(version, stage=instance.stage, name=name, config=config, threads=threads, notifier=notifier)
        return
    proven = Proven(prove(store, instance, config), lambda: prove(store, instance, config), say=notifier.tell)
    watch, group, master = WorkerWatch(announces=True), PeerGroup(), os.getpid()
    patience, is_alone = unit.watchdog_seconds() / TURNS_PER_LIMIT, False

    def make() -> Any:
        threads, taken = threads_for(config, instance), proven.take()
        if isinstance(taken, Loadable):
            on_processor, until = instance.is_on_processor, config.engine.debug_until
            kept = keptsteps.kept(config.at, taken.descriptor, instance, threads=threads)
            loaded = load(taken, stage=instance.stage, kept=kept, on_processor=on_processor, debug_until=until)
        else:
            loaded = _attach(taken, stage=instance.stage, threads=threads, config=config, group=group)
        watch.probe = lambda: loaded.turns(patience)
        engine_filter.put_on(but=loaded.calls)
        watch.loaded()
        nonlocal is_alone
        is_alone = isinstance(taken, Loadable)
        return loaded.app

    def before_fork(server: object, worker: object) -> None:
        proven.before_fork(server, worker)
        watch.pre_fork(server, worker)

    def after_worker(server: object, worker: object) -> None:
        if is_alone:  # an attached program is ended by Python's own way out
            leaving.worker(server, worker)

    def at_exit(server: object) -> None:
        group.end()
        if not refusal.code:
            leaving.master(server)

    options = {
        "bind": f"unix:{config.at.socket(f'engine-{name}')}",
        "umask": 0o007,
        "workers": 1,
        "pre_fork": before_fork,
        "child_exit": lambda _server, _worker: group.end(),
        "when_ready": watch.when_ready,
        "worker_exit": after_worker,
        "on_exit": at_exit,
        "post_worker_init": watch.post_worker_init,
        "worker_class": "gthread",
        "threads": (answering := answering_threads(config)),
        "worker_connections": answering + KEPT_CONNECTIONS,
        "timeout": config.engine.start_seconds,
        "graceful_timeout": STOP_SECONDS,
        "accesslog": None,
        "errorlog": "-",
        "loglevel": "warning",
        "control_socket_disable": True,
        "worker_tmp_dir": HEARTBEATS,
        "proc_name": f"sealift-engine {instance.stage}",
    }
    try:
        _EngineServer(lambda: refusal.guarded(make), options).run()
    finally:
        if os.getpid() == master:
            group.end()


if __name__ == "__main__":
    main()
