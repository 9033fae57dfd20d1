"""What llama.cpp computes on: the library that fits the processor, those for GPUs, and where a model's layers lie.

And how what it computes on a processor is ended from outside, between two of its operations (ADR 88).
"""

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final

import llama_cpp

from appliance.errors import EngineLoadError
from appliance.serve import frommachine
from media import processorchoice
from media.llamaprofile import LlamaSettings

_GPU_LIBRARIES: Final = ("libggml-vulkan.so",)
# GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU: llama.cpp takes one of the latter, which share memory, where no other is.
_GPU_DEVICE: Final = 1
_SHARING_DEVICE: Final = 2
ENDED: Final = 2
"""What `llama_decode` returns where it was ended."""


@cache
def load_backends() -> None:
    """Register the library that fits this machine's processor, when the wheel carries several.

    The portable wheel keeps them in ``site-packages/bin``; a native wheel has its backend built in and nothing happens.
    ``libggml.so.0`` must be told: the wheel holds copies, not links, and a second copy would get the backends.

    Raises:
        EngineLoadError: None of them computes on this processor.
    """
    packages = Path(llama_cpp.__file__).parent.parent
    libraries = processorchoice.libraries_of(packages)
    if not any(libraries.glob("libggml-cpu-*.so")):
        return
    found = processorchoice.fitting(Path(sys.executable), packages)
    if found.unfit:
        sys.stderr.write(
            f"llama.cpp: {', '.join(found.unfit)} would be for this processor and does not compute here; "
            f"{found.library or 'none'} is used. A virtual machine may name what its host does not have\n"
        )
    ggml = _ggml()
    if found.library:
        ggml.ggml_backend_load(ctypes.c_char_p(str(libraries / found.library).encode()))
    elif not found.unfit:  # nothing could be tried
        ggml.ggml_backend_load_all_from_path(ctypes.c_char_p(str(libraries).encode()))
    else:
        raise EngineLoadError(
            what="llama.cpp computes nothing on this processor",
            why="none of the libraries that the engine brings ran to its end",
            fix="see `sealift doctor`; give the virtual machine its host's own processor",
        )


@cache
def _load_for_gpus() -> None:
    """Register the libraries for GPUs; their drivers run in this process then."""
    libraries = processorchoice.libraries_of(Path(llama_cpp.__file__).parent.parent)
    for name in _GPU_LIBRARIES:
        if (path := libraries / name).is_file():
            _ggml().ggml_backend_load(ctypes.c_char_p(str(path).encode()))


def place(model_params: Any, settings: LlamaSettings) -> Any:
    """Say where layers lie; return what has to live until the model is loaded.

    Where no layer is to lie on a GPU none is used: llama.cpp by itself would compute large steps on one that it finds.

    Raises:
        EngineLoadError: The profile asks for GPUs, and this build has no backend for one, or the machine too few.
    """
    model_params.n_gpu_layers = settings.n_gpu_layers
    if not settings.num_gpu:
        none = (ctypes.c_void_p * 1)(None)
        model_params.devices = ctypes.addressof(none)
        return none
    _load_for_gpus()
    found = _gpus()
    if found < settings.num_gpu:
        lacking = frommachine.fault(frommachine.own_wheels())
        raise EngineLoadError(
            what=f"the version's profile asks for {settings.num_gpu} GPU{'s' if settings.num_gpu > 1 else ''}",
            why=f"llama.cpp finds {found} here" + (f": {lacking}" if lacking else ""),
            fix="see `sealift doctor` and docs/operator/recipe.md: llama_cpp.backend, and the driver's part for it",
        )
    model_params.main_gpu = settings.main_gpu
    # One GPU holds all of its layers; several hold whole layers each.
    is_alone = settings.num_gpu == 1
    model_params.split_mode = llama_cpp.LLAMA_SPLIT_MODE_NONE if is_alone else llama_cpp.LLAMA_SPLIT_MODE_LAYER
    places = max(int(llama_cpp.llama_max_devices()), settings.num_gpu)
    shares = (ctypes.c_float * places)(*settings.shares(places))
    model_params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))
    return shares


def load(path: Path, model_params: Any) -> Any:
    """Load weights and return the model; null where llama.cpp does not read them.

    On a thread that then ends, and takes the team of threads with it that OpenMP keeps for whoever ever computed:
    weights are laid out for AMX by one. With a second team every barrier of a step sleeps (SCHED-4), and a step of one
    token took nine times as long.
    """
    with ThreadPoolExecutor(1) as loading:
        return loading.submit(llama_cpp.llama_model_load_from_file, str(path).encode(), model_params).result()


class Ending:
    """Ends the computations of a context, from any thread and until it is taken back.

    llama.cpp asks between any two operations, hundreds of times a step, so what it asks is a function of C: the length
    of a text, which has a letter while computations are to end.

    Args:
        context: Of llama.cpp; nothing else may end its computations.
    """

    def __init__(self, context: Any) -> None:
        self._text = ctypes.create_string_buffer(2)
        length = ctypes.cast(ctypes.CDLL(None).strlen, llama_cpp.ggml_abort_callback)
        llama_cpp.llama_set_abort_callback(context, length, ctypes.cast(self._text, ctypes.c_void_p))

    def halt(self) -> None:
        """End the computation that goes on, and each one that begins."""
        self._text.value = b"x"

    def go_on(self) -> None:
        """Take `halt` back."""
        self._text.value = b""


def _gpus() -> int:
    if not llama_cpp.llama_supports_gpu_offload():
        return 0
    ggml = _ggml()
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.argtypes, ggml.ggml_backend_dev_get.restype = [ctypes.c_size_t], ctypes.c_void_p
    ggml.ggml_backend_dev_type.argtypes, ggml.ggml_backend_dev_type.restype = [ctypes.c_void_p], ctypes.c_int
    devices = [ggml.ggml_backend_dev_get(at) for at in range(ggml.ggml_backend_dev_count())]
    kinds = [ggml.ggml_backend_dev_type(one) for one in devices]
    return kinds.count(_GPU_DEVICE) or min(1, kinds.count(_SHARING_DEVICE))


def _ggml() -> ctypes.CDLL:
    return ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib/libggml.so.0"))
