"""Weights that lie 16 rows side by side (ADR 77) give what llama.cpp's own products give, in each of its libraries.

And a row of results does not depend on how many are computed at once: not by a bit.
"""

from pathlib import Path

import pytest

from tests.support.real_engine import told_by

pytestmark = pytest.mark.demo

PROGRAM = """
import ctypes, json, sys
import numpy
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import llama_cpp
from media import processortrial as trial

packages = Path(llama_cpp.__file__).parents[1]
ggml = trial._Ggml(packages / "llama_cpp" / "lib")
WIDTH, ROWS, COLUMNS = 320, 48, (1, 2, 3, 4, 5, 8, 9, 16, 21)
KINDS = {"Q4_1": (3, 4, 16), "Q8_0": (8, 2, 32)}  # its number; bytes of a block's scales, of its numbers
trial._WIDTH = WIDTH
noise = numpy.random.default_rng(77)


def weights_of(kind):
    _, scales, numbers = KINDS[kind]
    blocks = noise.integers(0, 256, (ROWS * WIDTH // 32, scales + numbers), dtype=numpy.uint8)
    halves = noise.uniform(0.01, 1, (len(blocks), scales // 2)).astype(numpy.float16)
    blocks[:, :scales] = halves.view(numpy.uint8)
    blocks[:7, scales:] = 255 if kind == "Q4_1" else 128  # the most that there is: 15 each, or -128 each
    blocks[7:9, scales:] = 127
    return blocks.tobytes()


def activations_of(columns):
    found = numpy.random.default_rng(78).normal(size=(max(COLUMNS), WIDTH)).astype(numpy.float32)
    found[:, :64], found[:, 64:96] = 3.0, -3.0  # quantized to 127 each, and to -127 each
    return found[:columns].tobytes()


def product(place, kind, columns, weights):
    into, rest = (ctypes.c_void_p(trial._context(ggml)) for _ in range(2))
    left = trial._matrix(ggml, into, KINDS[kind][0], ROWS)
    if not ggml.call("ggml_backend_alloc_ctx_tensors_from_buft", into, place):
        return None
    right = trial._matrix(ggml, rest, 0, columns)
    made = ctypes.c_void_p(ggml.call("ggml_mul_mat", rest, left, right))
    if not ggml.call("ggml_backend_dev_supports_op", device, made, returns=ctypes.c_bool):
        return None
    graph = ctypes.c_void_p(ggml.call("ggml_new_graph", rest))
    ggml.call("ggml_build_forward_expand", graph, made, returns=None)
    ggml.call("ggml_backend_alloc_ctx_tensors_from_buft", rest, usual)
    for tensor, data in ((left, weights), (right, activations_of(columns))):
        ggml.call("ggml_backend_tensor_set", tensor, data, ctypes.c_size_t(0), ctypes.c_size_t(len(data)), returns=None)
    assert ggml.call("ggml_backend_graph_compute", backend, graph, returns=ctypes.c_int) == 0
    read = ctypes.create_string_buffer(4 * ROWS * columns)
    ggml.call("ggml_backend_tensor_get", made, read, ctypes.c_size_t(0), ctypes.c_size_t(len(read)), returns=None)
    return numpy.frombuffer(read, dtype=numpy.float32).reshape(columns, ROWS)


found = {}
for name in trial.scored(packages / "bin"):
    registry = ctypes.c_void_p(ggml.call("ggml_backend_load", str(packages / "bin" / name).encode()))
    device = ctypes.c_void_p(ggml.call("ggml_backend_reg_dev_get", registry, ctypes.c_size_t(0)))
    backend = ctypes.c_void_p(ggml.call("ggml_backend_dev_init", device, None))
    usual = ctypes.c_void_p(ggml.call("ggml_backend_dev_buffer_type", device))
    for kind in KINDS:
        weights = weights_of(kind)
        whole = product(usual, kind, max(COLUMNS), weights)
        laid_out = [
            made
            for place in list(trial._places(ggml, registry, device))[1:]
            if "REPACK" in ctypes.string_at(ggml.call("ggml_backend_buft_name", place)).decode()
            for columns in COLUMNS
            if (made := product(place, kind, columns, weights)) is not None
        ]
        largest = float(numpy.abs(whole).max())
        found[f"{name} {kind}"] = {
            "widths": len(laid_out),
            "off": max([float(numpy.abs(made - whole[: len(made)]).max()) / largest for made in laid_out], default=0.0),
            "alike": all(made.tobytes() == laid_out[-1][: len(made)].tobytes() for made in laid_out),
        }
print("FOUND " + json.dumps(found))
"""
_VNNI = ("zen4", "cooperlake", "icelake", "cascadelake", "sapphirerapids", "alderlake")
# Which of the libraries lay a type out at least.
_LAID_OUT = {"Q4_1": (*_VNNI, "haswell", "skylakex"), "Q8_0": _VNNI}


def test_products_of_weights_laid_out_side_by_side_are_llama_cpps_own_whatever_is_computed_beside(
    tmp_path: Path,
) -> None:
    found = told_by(PROGRAM, tmp_path)

    expected = {name for name in found for kind, those in _LAID_OUT.items() if _is_of(name, kind, those)}
    laid_out = {name: facts for name, facts in found.items() if facts["widths"]}
    assert set(laid_out) >= expected
    assert expected, "no library for this processor lays weights out"
    assert all(facts["widths"] == 9 and facts["alike"] for facts in laid_out.values()), laid_out
    assert max(facts["off"] for facts in laid_out.values()) < 1e-5


def _is_of(name: str, kind: str, libraries: tuple[str, ...]) -> bool:
    return name.endswith(kind) and any(f"-{library}." in name for library in libraries)
