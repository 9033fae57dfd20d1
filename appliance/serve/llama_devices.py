"""What llama.cpp computes on: the variant of its library that fits the processor, and where a model's layers lie."""

import ctypes
from pathlib import Path
from typing import Any, Final

import llama_cpp

from appliance.errors import EngineLoadError
from media.llamaprofile import LlamaSettings

_GPU_DEVICE: Final = 1  # GGML_BACKEND_DEVICE_TYPE_GPU


def load_backends() -> None:
    """Register the CPU variant that fits this machine, when the wheel carries several.

    The portable wheel keeps them in ``site-packages/bin``; a native wheel has its backend built in and nothing happens.
    The library must be ``libggml.so.0``: the wheel holds copies, not links, and a second copy would get the backends.
    """
    package = Path(llama_cpp.__file__).parent
    variants = package.parent / "bin"
    if not any(variants.glob("libggml-cpu-*.so")):
        return
    ggml = ctypes.CDLL(str(package / "lib/libggml.so.0"))
    ggml.ggml_backend_load_all_from_path(ctypes.c_char_p(str(variants).encode()))


def place(model_params: Any, settings: LlamaSettings) -> Any:
    """Say where layers lie; return what has to live until the model is loaded.

    Raises:
        EngineLoadError: The profile asks for GPUs, and this build has no backend for one, or the machine too few.
    """
    model_params.n_gpu_layers = settings.n_gpu_layers
    if not settings.num_gpu:
        return None
    found = _gpus()
    if found < settings.num_gpu:
        raise EngineLoadError(
            what=f"the version's profile asks for {settings.num_gpu} GPU{'s' if settings.num_gpu > 1 else ''}",
            why=f"llama.cpp finds {found} here",
            fix="see `sealift doctor`; carry an engine built for the GPU, or a version with n_gpu_layers 0",
        )
    model_params.main_gpu = settings.main_gpu
    # One GPU holds all of its layers; several hold whole layers each.
    is_alone = settings.num_gpu == 1
    model_params.split_mode = llama_cpp.LLAMA_SPLIT_MODE_NONE if is_alone else llama_cpp.LLAMA_SPLIT_MODE_LAYER
    places = max(int(llama_cpp.llama_max_devices()), settings.num_gpu)
    shares = (ctypes.c_float * places)(*settings.shares(places))
    model_params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))
    return shares


def _gpus() -> int:
    if not llama_cpp.llama_supports_gpu_offload():
        return 0
    ggml = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib/libggml.so.0"))
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.argtypes, ggml.ggml_backend_dev_get.restype = [ctypes.c_size_t], ctypes.c_void_p
    ggml.ggml_backend_dev_type.argtypes, ggml.ggml_backend_dev_type.restype = [ctypes.c_void_p], ctypes.c_int
    devices = [ggml.ggml_backend_dev_get(at) for at in range(ggml.ggml_backend_dev_count())]
    return sum(ggml.ggml_backend_dev_type(one) == _GPU_DEVICE for one in devices)
