"""A strict reader of safetensors headers: names, types and offsets only, nothing is loaded.

Rules: the header is strict JSON below a cap and inside the file; every type is known; shape, type and byte range agree;
the ranges cover the data section exactly, without holes or overlap. Python integers do not overflow.
"""

from pathlib import Path
from typing import Any, Final

from bundler.errors import ScanError
from media.canonical import exact_keys, loads
from media.errors import MediaError

_MAX_HEADER: Final = 64 * 2**20
HEADER_BYTES: Final = 8 + _MAX_HEADER
"""At most so many bytes at the start of a file hold its header."""
_MAX_DIMENSIONS: Final = 8
_METADATA: Final = "__metadata__"
_TYPE_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "F4": 4,
}  # fmt: skip


def read(path: Path) -> int:
    """Check the header of a file and return its number of tensors.

    Raises:
        ScanError: It breaks a rule of this module, or cannot be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return parse(file.read(min(size, HEADER_BYTES)), size=size)
    except OSError as error:
        raise ScanError(what=f"{path.name} cannot be read", why=error.strerror or "", fix="check the file") from error


def parse(untrusted: bytes, *, size: int) -> int:
    """Check a header at the start of a file of `size` bytes and return its number of tensors; see `read`.

    Raises:
        ScanError: It breaks a rule of this module.
    """
    return len(tensors(untrusted, size=size))


def tensors(untrusted: bytes, *, size: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Check a header at the start of a file of `size` bytes and return type and shape of each tensor by name.

    Raises:
        ScanError: It breaks a rule of this module.
    """
    if len(untrusted) < 8:
        raise _refused("it is shorter than its length field")
    length = int.from_bytes(untrusted[:8], "little")
    if length > min(_MAX_HEADER, len(untrusted) - 8, size - 8):
        raise _refused(f"its header of {length} bytes does not fit")
    try:
        header = loads(untrusted[8 : 8 + length].rstrip(b" "), max_bytes=_MAX_HEADER)
        if not isinstance(header, dict):
            raise _refused("its header is not an object")
        header.pop(_METADATA, None)
        ranges = sorted(_range(name, tensor) for name, tensor in header.items())
    except MediaError as error:
        raise _refused(f"{error.what}: {error.why}") from error
    end = 0
    for start, stop in ranges:
        if start != end:
            raise _refused(f"there is a hole or an overlap at byte {min(start, end)} of the data")
        end = stop
    if end != size - 8 - length:
        raise _refused(f"its tensors end at byte {end} of {size - 8 - length}")
    return {name: (tensor["dtype"], tuple(tensor["shape"])) for name, tensor in header.items()}


def _range(name: str, untrusted: Any) -> tuple[int, int]:
    tensor = exact_keys(untrusted, ("dtype", "shape", "data_offsets"), what=f"tensor {name[:100]}")
    shape, offsets, kind = tensor["shape"], tensor["data_offsets"], tensor["dtype"]
    if not isinstance(kind, str) or kind not in _TYPE_BITS:
        raise _refused(f"the tensor {name[:100]} has an unknown type")
    if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS or not _are_counts(offsets) or len(offsets) != 2:
        raise _refused(f"the tensor {name[:100]} has a malformed shape or range")
    elements = 1
    for dimension in shape:
        elements *= dimension
    start, stop = offsets
    if elements * _TYPE_BITS[kind] != (stop - start) * 8:
        raise _refused(f"the tensor {name[:100]} has {elements} elements in {stop - start} bytes")
    return start, stop


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _refused(why: str) -> ScanError:
    return ScanError(
        what="the model file has a malformed safetensors header",
        why=why,
        fix="take the file from its publisher again; do not load this one with any program",
    )
