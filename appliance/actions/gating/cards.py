"""Whether this machine's GPUs, or its memory, hold what vLLM is to open there, before it is loaded (C22)."""

from collections.abc import Sequence

from appliance.registry.contexts import Kept
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.gpus import Gpu
from appliance.serve.vllm import cache_bytes
from media.vllmprofile import TENSOR_PARALLEL, VllmSettings

_GIB = 2**30


def of_stage(named: Sequence[int | str], gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Return the GPUs that engines of a stage see, of all of the machine.

    Args:
        named: As the site file names them; none means all. Where the driver's names are given, which is which is not
            told, and none is returned: then a version is judged as it loads.
        gpus: All that tell what they do.
    """
    if not named:
        return tuple(gpus)
    numbers = {str(one) for one in named if isinstance(one, int)}
    return tuple(gpu for gpu in gpus if gpu.gpu_id in numbers) if len(numbers) == len(named) else ()


def fault(descriptor: ModelDescriptor, gpus: Sequence[Gpu], kept: Kept | None = None) -> str:
    """Return why the GPUs do not hold a version's weights and one context as it spreads them; "" where they may.

    Args:
        descriptor: A version that vLLM opens on GPUs.
        gpus: Those that it is to be tried on, one at least.
        kept: What its tokens leave behind; None where its files do not say, and vLLM finds out as it loads.
    """
    settings = descriptor.runtime.vllm or VllmSettings()
    groups, wanted = settings.pipeline_parallel_size, settings.pipeline_parallel_size * settings.tensor_parallel_size
    if wanted > len(gpus):
        return f"its profile asks for {wanted} GPUs, and engines of the test stage see {len(gpus)}"
    weights, n_ctx = descriptor.weights_bytes, descriptor.runtime.n_ctx

    def takes(spread: int) -> float:
        beside = 0 if kept is None else kept.of_one(n_ctx, spread=spread, groups=groups)
        return weights / (spread * groups) + beside

    sizes = sorted((gpu.memory_total_bytes for gpu in gpus), reverse=True)
    share = float(settings.gpu_memory_utilization)
    if takes(settings.tensor_parallel_size) <= sizes[wanted - 1] * share:
        return ""
    room = f"{wanted} GPU{'s' if wanted > 1 else ''} of {sizes[wanted - 1] / _GIB:.1f} GiB"
    more = [
        size
        for size in TENSOR_PARALLEL
        if size * groups <= len(gpus) and takes(size) <= sizes[size * groups - 1] * share
    ]
    what_helps = (
        f"tensor_parallel_size = {more[0]} holds them here" if more else "all that the test stage sees do not hold them"
    )
    context = "" if kept is None else f" and {kept.of_one(n_ctx) / _GIB:.1f} GiB more for one context"
    return f"its weights take {weights / _GIB:.1f} GiB{context}, and it asks for {room}; {what_helps}"


def memory_fault(descriptor: ModelDescriptor, memory_bytes: int, limit_bytes: int, kept: Kept | None = None) -> str:
    """Return why a machine's memory does not hold what vLLM takes of it on a processor; "" where it may.

    Args:
        descriptor: A version that vLLM opens on a processor.
        memory_bytes: All memory.
        limit_bytes: What engines may take of it.
        kept: What its tokens leave behind; None where its files do not say.
    """
    weights, n_ctx = descriptor.weights_bytes, descriptor.runtime.n_ctx
    cache, context = cache_bytes(memory_bytes), 0 if kept is None else kept.of_one(n_ctx)
    if context > cache:
        needs, has = f"one context of {n_ctx} tokens takes {context / _GIB:.1f} GiB", f"{cache / _GIB:.0f} GiB"
        return f"{needs}, and vLLM keeps {has} of this machine's memory for them; with n_ctx less it fits"
    if weights + cache > limit_bytes:
        needs = f"its weights take {weights / _GIB:.1f} GiB, and what tokens leave behind {cache / _GIB:.0f} GiB"
        return f"{needs}; {limit_bytes / _GIB:.1f} GiB may be used"
    return ""
