"""A strict reader of safetensors headers: names, types and offsets only, nothing is loaded.

Rules: the header is strict JSON below a cap and inside the file, starts with its brace and ends in blanks at most;
every type is known; names are short; shape, type and byte range agree; the ranges cover the data section exactly,
without holes or overlap; `__metadata__` is a short map of short texts. An index of several files names each tensor's
file by a plain name, and only files that are there. Python integers do not overflow.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bundler.errors import ScanError
from media.canonical import exact_keys, loads, mapping
from media.errors import MediaError

_MAX_HEADER: Final = 64 * 2**20
HEADER_BYTES: Final = 8 + _MAX_HEADER
"""At most so many bytes at the start of a file hold its header."""
INDEX_NAME: Final = "model.safetensors.index.json"
_MAX_TENSORS: Final = 1_000_000
_MAX_DIMENSIONS: Final = 8
_MAX_NAME: Final = 512
_MAX_METADATA: Final = 256
_MAX_METADATA_TEXT: Final = 2**20
_METADATA: Final = "__metadata__"
_TYPE_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "F4": 4,
}  # fmt: skip

Tensors = dict[str, tuple[str, tuple[int, ...]]]


def read(path: Path) -> int:
    """Check the header of a file and return its number of tensors.

    Raises:
        ScanError: It breaks a rule of this module, or cannot be read.
    """
    return len(read_tensors(path))


def read_tensors(path: Path) -> Tensors:
    """Check the header of a file and return type and shape of each tensor by name.

    Raises:
        ScanError: It breaks a rule of this module, or cannot be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            # Only as much as the file says, and not even that where it says too much.
            claimed = min(int.from_bytes(start, "little"), _MAX_HEADER)
            return tensors(start + file.read(claimed), size=size)
    except OSError as error:
        raise ScanError(what=f"{path.name} cannot be read", why=error.strerror or "", fix="check the file") from error


def parse(untrusted: bytes, *, size: int) -> int:
    """Check a header at the start of a file of `size` bytes and return its number of tensors; see `read`.

    Raises:
        ScanError: It breaks a rule of this module.
    """
    return len(tensors(untrusted, size=size))


def tensors(untrusted: bytes, *, size: int) -> Tensors:
    """Check a header at the start of a file of `size` bytes and return type and shape of each tensor by name.

    Raises:
        ScanError: It breaks a rule of this module.
    """
    if len(untrusted) < 8:
        raise _refused("it is shorter than its length field")
    length = int.from_bytes(untrusted[:8], "little")
    if length > min(_MAX_HEADER, len(untrusted) - 8, size - 8):
        raise _refused(f"its header of {length} bytes does not fit")
    if untrusted[8:9] != b"{":
        raise _refused("its header does not start with a brace")
    try:
        header = mapping(loads(untrusted[8 : 8 + length].rstrip(b" "), max_bytes=_MAX_HEADER), "the header")
        _require_metadata(header.pop(_METADATA, {}))
        ranges = sorted(_range(name, tensor) for name, tensor in header.items())
    except MediaError as error:
        raise _refused(f"{error.what}: {error.why}") from error
    if len(ranges) > _MAX_TENSORS:
        raise _refused(f"it has {len(ranges)} tensors; the limit is {_MAX_TENSORS}")
    end = 0
    for start, stop in ranges:
        if start != end:
            raise _refused(f"there is a hole or an overlap at byte {min(start, end)} of the data")
        end = stop
    if end != size - 8 - length:
        raise _refused(f"its tensors end at byte {end} of {size - 8 - length}")
    return {name: (tensor["dtype"], tuple(tensor["shape"])) for name, tensor in header.items()}


def require_index(untrusted: bytes, shards: Mapping[str, Tensors]) -> None:
    """Check the index of a model that lies in several files against these files' own headers.

    Args:
        untrusted: The index.
        shards: The files beside it, by plain name.

    Raises:
        ScanError: It names a file that is not there or lies elsewhere, a tensor that its file lacks, or leaves one out.
    """
    try:
        index = mapping(loads(untrusted, max_bytes=_MAX_HEADER, allow_floats=True), INDEX_NAME)
        places = mapping(index.get("weight_map"), "weight_map")
    except MediaError as error:
        raise _wrong_index(f"{error.what}: {error.why}") from error
    for tensor, file in places.items():
        if not isinstance(file, str) or file not in shards:
            raise _wrong_index(f"it looks for {tensor[:100]!a} in {str(file)[:100]!a}, which is not there")
        if tensor not in shards[file]:
            raise _wrong_index(f"{file} has no tensor {tensor[:100]!a}")
    if unused := sorted(shards.keys() - set(places.values())):
        raise _wrong_index(f"it does not name {unused[0]}")
    for file, held in shards.items():
        if extra := sorted(name for name in held if places.get(name) != file):
            raise _wrong_index(f"{file} holds {extra[0][:100]!a}, which the index does not look for there")


def _require_metadata(untrusted: Any) -> None:
    if not isinstance(untrusted, dict) or len(untrusted) > _MAX_METADATA:
        raise _refused(f"its metadata is no map of at most {_MAX_METADATA} texts")
    for key, value in untrusted.items():
        if len(key) > _MAX_NAME or not isinstance(value, str) or len(value) > _MAX_METADATA_TEXT:
            raise _refused(
                f"its metadata has a long key, or a value that is no text of {_MAX_METADATA_TEXT} characters"
            )


def _range(name: str, untrusted: Any) -> tuple[int, int]:
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise _refused("a tensor's name is empty, long or not printable")
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


def _wrong_index(why: str) -> ScanError:
    return ScanError(
        what=f"{INDEX_NAME} is not about the files beside it",
        why=why,
        fix="take all files of one revision from their publisher again",
    )


def _refused(why: str) -> ScanError:
    return ScanError(
        what="the model file has a malformed safetensors header",
        why=why,
        fix="take the file from its publisher again; do not load this one with any program",
    )
