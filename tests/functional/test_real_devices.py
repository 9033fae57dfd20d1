"""What the shipped build of llama.cpp is told of GPUs and attention, by itself: no model is loaded."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from appliance.verify import fit
from bundler.processor import VARIANTS
from media import processorchoice
from media.processorchoice import Fitting
from tests.support.real_engine import DEMO, ROOT, told_by

pytestmark = pytest.mark.demo

_PROGRAM: Final = """
import json, sys

sys.path.insert(0, sys.argv[1])
import llama_cpp

from appliance.errors import EngineLoadError
from appliance.serve import llama_devices
from media.llamaprofile import LlamaSettings

llama_devices.load_backends()
params = llama_cpp.llama_model_default_params()
try:
    llama_devices.place(params, LlamaSettings(**json.loads(sys.argv[2])))
    refused = None
except EngineLoadError as error:
    refused = [error.what, error.why]
attention = llama_cpp.llama_context_default_params().flash_attn_type
is_auto = attention == llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
print(json.dumps({"layers": params.n_gpu_layers, "refused": refused, "is_auto": is_auto}))
"""


def _python() -> Path:
    pythons = sorted((DEMO / "appliance/opt/sealift/releases").glob("*/engine-llama-cpp/bin/python"))
    if not pythons:
        pytest.skip("there is no engine of the demo; run make demo")
    return pythons[0]


def _told(settings: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [_python(), "-I", "-c", _PROGRAM, str(ROOT), json.dumps(settings)],
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=Path("/"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


def test_without_a_word_of_gpus_no_layer_lies_on_one() -> None:
    told = _told({})

    assert (told["layers"], told["refused"]) == (0, None)


@pytest.mark.parametrize("layers", [20, -1])
def test_a_profile_that_asks_for_gpus_is_refused_where_there_is_none(layers: int) -> None:
    told = _told({"n_gpu_layers": layers, "num_gpu": 1})

    assert told["refused"] == ["the version's profile asks for 1 GPU", "llama.cpp finds 0 here"]


def test_whether_attention_is_fused_is_left_to_the_library_that_knows_model_and_device() -> None:
    assert _told({})["is_auto"] is True


_LOADS: Final = """
import os, sys

sys.path.insert(0, sys.argv[1])
import json
from pathlib import Path

from appliance.serve import llama_devices
from appliance.serve.embedding_llama import LlamaCppEmbedder
from appliance.serve.llama_cpp import LlamaCppDecoder
from media.embedding import EmbeddingProfile

before = len(os.listdir("/proc/self/task"))
decoder = LlamaCppDecoder(Path(sys.argv[2]), n_ctx=256, n_batch=64, n_seq_max=1, threads=2)
profile = EmbeddingProfile(dimensions=576, pooling="mean", n_ctx=256)
embedder = LlamaCppEmbedder(Path(sys.argv[2]), profile, threads=2)
print("FOUND " + json.dumps({"threads": len(os.listdir("/proc/self/task")) - before}))
"""


def test_no_thread_is_left_of_loading_weights_which_would_slow_each_step(tmp_path: Path) -> None:
    assert told_by(_LOADS, tmp_path)["threads"] == 0


def test_each_library_for_processors_is_tried_by_computing_with_it(tmp_path: Path) -> None:
    python = _python()
    (packages,) = python.parent.parent.glob("lib/python3*/site-packages")
    used = processorchoice.fitting(python, packages).library
    alone: dict[str, Fitting] = {}
    for library in sorted((packages / "bin").glob("libggml-cpu-*.so")):
        place = tmp_path / library.stem
        (place / "bin").mkdir(parents=True)
        (place / "bin" / library.name).symlink_to(library)
        (place / "llama_cpp").symlink_to(packages / "llama_cpp")
        alone[library.name] = processorchoice.fitting(python, place)

    assert alone[used] == Fitting(library=used)
    assert alone["libggml-cpu-x64.so"] == Fitting(library="libggml-cpu-x64.so")
    flags = fit.Machine.probe("here").cpu_flags
    assert alone == {
        name: Fitting(library=name if needs <= flags else "")
        for kind, needs in VARIANTS.items()
        if (name := f"libggml-cpu-{kind}.so") in alone
    }
