"""Try which of llama.cpp's libraries for processors computes here. Stand-alone: its text is run by itself.

llama.cpp takes the library that uses most of what a processor says of itself. A hypervisor may name instructions that
then end whoever uses them (llama.cpp's issues 28328 and 28756), and a compiler may have built them wrongly (its request
26954: tiles of AMX without their configuration; `bundler/sources/amx_tiles.h`). Here each product of matrices that a
model is made of is computed once, and compared with what it must be.

Weights and what they are multiplied with are waves of one set, each at right angles to all others: a product of like
waves is half their length, and of others nothing, so that rows, columns or digits in a wrong place are seen.

Arguments: the folder of the libraries, that of `libggml.so.0`, and file names not to try. Prints the file name that is
tried now, then `fits` and the name. Ends with 3 where none fits; it is killed (SIGILL) by one whose instructions are
not there, and the caller asks again without that one.
"""

import ctypes
import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

_F32 = 0
# ggml.h: F16, BF16, Q4_0, Q4_1, Q5_0, Q8_0, IQ4_NL, IQ4_XS, Q4_K, Q5_K, Q6_K: what recipes quantize to, and others.
_TYPES = (1, 30, 2, 3, 6, 8, 20, 23, 12, 13, 14)
_WIDTH, _ROWS = 256, 64
# One answer's step, and a prompt's: other kernels.
_COLUMNS = (1, 33)
_LIKE = _WIDTH / 2
# Of a product; quantizing to four bits costs a sixth of it.
_TOLERANCE = 0.06 * _WIDTH
_BYTES = 2**20
NONE_FITS = 3
"""What it ends with where it tried all."""


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class _Ggml:
    """The functions of llama.cpp's tensor library, each with its types."""

    def __init__(self, folder: Path) -> None:
        self._libraries = [ctypes.CDLL(str(folder / name)) for name in ("libggml-base.so.0", "libggml.so.0")]

    def call(self, name: str, *arguments: object, returns: Any = ctypes.c_void_p) -> int:
        found = next(each for each in self._libraries if hasattr(each, name))
        function = found[name]
        function.restype = returns
        return int(function(*arguments) or 0)


def scored(folder: Path) -> list[str]:
    """Return the libraries' file names, best first; those that do not claim to fit are left out."""
    found: list[tuple[int, str]] = []
    for path in folder.glob("libggml-cpu-*.so"):
        try:
            score = ctypes.CDLL(str(path)).ggml_backend_score()
        except (OSError, AttributeError):
            continue
        if score:
            found.append((score, path.name))
    return [name for _, name in sorted(found, reverse=True)]


def computes(ggml: _Ggml, library: Path) -> bool:
    """Return whether a library computes what it must; the process is ended where it uses what is not there."""
    registry = ctypes.c_void_p(ggml.call("ggml_backend_load", str(library).encode()))
    if not registry.value:
        return False
    device = ctypes.c_void_p(ggml.call("ggml_backend_reg_dev_get", registry, ctypes.c_size_t(0)))
    backend = ctypes.c_void_p(ggml.call("ggml_backend_dev_init", device, None))
    if not backend.value:
        return False
    return all(
        _is_right(ggml, device, backend, place, kind, columns)
        for place in _places(ggml, registry, device)
        for kind in _TYPES
        for columns in _COLUMNS
    )


def _places(ggml: _Ggml, registry: ctypes.c_void_p, device: ctypes.c_void_p) -> Iterator[ctypes.c_void_p]:
    """Yield the kinds of memory that weights may lie in: some are laid out anew for instructions of their own."""
    yield ctypes.c_void_p(ggml.call("ggml_backend_dev_buffer_type", device))
    found = ggml.call("ggml_backend_reg_get_proc_address", registry, b"ggml_backend_dev_get_extra_bufts")
    if not found:
        return
    listed = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(found)(device)
    at = 0
    while listed and listed[at]:
        yield ctypes.c_void_p(listed[at])
        at += 1


def _is_right(
    ggml: _Ggml, device: ctypes.c_void_p, backend: ctypes.c_void_p, place: ctypes.c_void_p, kind: int, columns: int
) -> bool:
    weights_of, rest_of = (ctypes.c_void_p(_context(ggml)) for _ in range(2))
    weights = _matrix(ggml, weights_of, kind, _ROWS)
    if not ggml.call("ggml_backend_alloc_ctx_tensors_from_buft", weights_of, place):
        return True  # no memory of this kind here
    right = _matrix(ggml, rest_of, _F32, columns)
    product = ctypes.c_void_p(ggml.call("ggml_mul_mat", rest_of, weights, right))
    if not ggml.call("ggml_backend_dev_supports_op", device, product, returns=ctypes.c_bool):
        return True  # what is not done there is done elsewhere
    usual = ctypes.c_void_p(ggml.call("ggml_backend_dev_buffer_type", device))
    graph = ctypes.c_void_p(ggml.call("ggml_new_graph", rest_of))
    ggml.call("ggml_build_forward_expand", graph, product, returns=None)
    ggml.call("ggml_backend_alloc_ctx_tensors_from_buft", rest_of, usual)
    _fill(ggml, weights, kind, _ROWS)
    _fill(ggml, right, _F32, columns)
    if ggml.call("ggml_backend_graph_compute", backend, graph, returns=ctypes.c_int) != 0:
        return False
    made = (ctypes.c_float * (_ROWS * columns))()
    size = ctypes.c_size_t(ctypes.sizeof(made))
    ggml.call("ggml_backend_tensor_get", product, made, ctypes.c_size_t(0), size, returns=None)
    return is_product(list(made), columns)


def is_product(made: Sequence[float], columns: int) -> bool:
    """Return whether these are the products of the waves: for each column, those with the 64 rows."""
    return all(
        abs(made[column * _ROWS + row] - (_LIKE if row == column else 0)) <= _TOLERANCE
        for column in range(columns)
        for row in range(_ROWS)
    )


@cache
def waves(rows: int) -> "array[float]":
    """Return so many waves of 256 numbers each, one after the other."""
    circle = [math.cos(2 * math.pi * at / _WIDTH) for at in range(_WIDTH)]
    return array("f", [circle[(row + 1) * at % _WIDTH] for row in range(rows) for at in range(_WIDTH)])


def _context(ggml: _Ggml) -> int:
    return ggml.call("ggml_init", _InitParams(mem_size=_BYTES, mem_buffer=None, no_alloc=True))


def _matrix(ggml: _Ggml, context: ctypes.c_void_p, kind: int, rows: int) -> ctypes.c_void_p:
    sizes = (ctypes.c_int64(_WIDTH), ctypes.c_int64(rows))
    return ctypes.c_void_p(ggml.call("ggml_new_tensor_2d", context, ctypes.c_int(kind), *sizes))


def _fill(ggml: _Ggml, matrix: ctypes.c_void_p, kind: int, rows: int) -> None:
    """Fill a matrix with waves, in the type that it has."""
    length = ggml.call("ggml_nbytes", matrix, returns=ctypes.c_size_t)
    data = ctypes.create_string_buffer(length)
    exact = (ctypes.c_float * (_WIDTH * rows)).from_buffer(waves(rows))
    if kind == _F32:
        ctypes.memmove(data, exact, length)
    else:
        sizes = (ctypes.c_int64(0), ctypes.c_int64(rows), ctypes.c_int64(_WIDTH))
        ggml.call("ggml_quantize_chunk", ctypes.c_int(kind), exact, data, *sizes, None, returns=ctypes.c_size_t)
    ggml.call("ggml_backend_tensor_set", matrix, data, ctypes.c_size_t(0), ctypes.c_size_t(length), returns=None)


def main(arguments: list[str]) -> int:
    """Try the libraries; return 0 where one fits."""
    libraries, own, *without = arguments
    ggml = _Ggml(Path(own))
    for name in scored(Path(libraries)):
        if name in without:
            continue
        sys.stdout.write(f"tries {name}\n")
        sys.stdout.flush()
        if computes(ggml, Path(libraries) / name):
            sys.stdout.write(f"fits {name}\n")
            return 0
    return NONE_FITS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
