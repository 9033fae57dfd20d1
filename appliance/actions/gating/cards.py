"""Whether this machine's GPUs hold what vLLM is to open on them, before it is loaded (C22)."""

from collections.abc import Sequence

from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.gpus import Gpu
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


def fault(descriptor: ModelDescriptor, gpus: Sequence[Gpu]) -> str:
    """Return why the GPUs do not hold a version's weights as its profile spreads them; "" where they may.

    What the cache of keys and values needs beside them vLLM finds out as it loads.

    Args:
        descriptor: A version that vLLM opens on GPUs.
        gpus: Those that it is to be tried on, one at least.
    """
    settings = descriptor.runtime.vllm or VllmSettings()
    groups, wanted = settings.pipeline_parallel_size, settings.pipeline_parallel_size * settings.tensor_parallel_size
    if wanted > len(gpus):
        return f"its profile asks for {wanted} GPUs, and engines of the test stage see {len(gpus)}"
    weights = descriptor.weights_bytes
    sizes = sorted((gpu.memory_total_bytes for gpu in gpus), reverse=True)
    share = float(settings.gpu_memory_utilization)
    if weights / wanted <= sizes[wanted - 1] * share:
        return ""
    room = f"{wanted} GPU{'s' if wanted > 1 else ''} of {sizes[wanted - 1] / _GIB:.1f} GiB"
    more = [
        size
        for size in TENSOR_PARALLEL
        if size * groups <= len(gpus) and weights / (size * groups) <= sizes[size * groups - 1] * share
    ]
    what_helps = (
        f"tensor_parallel_size = {more[0]} holds them here" if more else "all that the test stage sees do not hold them"
    )
    return f"its weights take {weights / _GIB:.1f} GiB, and it asks for {room}; {what_helps}"
