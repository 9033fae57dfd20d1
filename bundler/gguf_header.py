"""A strict reader of GGUF headers, so that no malformed model file ever reaches llama.cpp's own loader.

Rules, each the shape of a published fault in a loader (integer overflows in counts, dimensions and offsets):

* magic ``GGUF``, version 2 or 3, little-endian; counts, name lengths and the whole header below caps;
* every string and array fits into what is left of the file before a byte of it is read;
* no key and no tensor name twice; keys and tensor names are short printable ASCII; text is UTF-8;
* alignment is a power of two; at most four dimensions, none zero, their product below 2**48; a known tensor type;
* every tensor starts aligned, ends inside the file, and overlaps no other.

Nothing is decoded that is not needed: arrays are checked and skipped. Python integers do not overflow.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundler.errors import ScanError

Scalar = int | float | bool | str

_MAX_KEYS: Final = 4096
_MAX_TENSORS: Final = 65536
_MAX_HEADER: Final = 512 * 2**20
_MAX_NAME: Final = 256
_MAX_TEXT: Final = 4 * 2**20
_MAX_ARRAY: Final = 16 * 2**20
_MAX_ELEMENTS: Final = 2**48
_MAX_ALIGNMENT: Final = 2**16

_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 10: "<Q", 11: "<q", 12: "<d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9

# ggml type number -> (name, elements in a block, bytes of a block); types that llama.cpp removed are not here.
_TENSOR_TYPES: Final = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor as the header states it; `offset` counts from the start of the data section."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What the header says. `metadata` holds scalars and text; `arrays` the length of each array."""

    version: int
    alignment: int
    data_offset: int
    metadata: Mapping[str, Scalar]
    arrays: Mapping[str, int]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """The architecture's name, e.g. ``llama``; empty where the file does not say."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def chat_template(self) -> str:
        """The template that the file carries; empty where there is none."""
        return str(self.metadata.get("tokenizer.chat_template", ""))

    @property
    def context_length(self) -> int:
        """Tokens the model was trained for; 0 where the file does not say."""
        found = self.metadata.get(f"{self.architecture}.context_length", 0)
        return found if isinstance(found, int) else 0

    @property
    def parameters(self) -> int:
        """The number of weights in all tensors."""
        total = 0
        for tensor in self.tensors:
            count = 1
            for dimension in tensor.shape:
                count *= dimension
            total += count
        return total


def read(path: Path) -> GgufHeader:
    """Check the header of a file.

    Raises:
        ScanError: It breaks a rule of this module, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size == 0:
                raise _refused("the file is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as untrusted:
                return parse(untrusted, size=size)
    except OSError as error:
        raise ScanError(what=f"{path.name} cannot be read", why=error.strerror or "", fix="check the file") from error


def parse(untrusted: bytes | mmap.mmap, *, size: int) -> GgufHeader:
    """Check a header at the start of a file of `size` bytes.

    Raises:
        ScanError: It breaks a rule of this module.
    """
    reader = _Reader(untrusted, min(size, len(untrusted), _MAX_HEADER))
    if reader.take(4) != b"GGUF":
        raise _refused("it does not start with GGUF")
    version = reader.number("<I")
    if version not in {2, 3}:
        raise _refused(f"version {version}; 2 and 3 are known (a file of the other byte order reads as neither)")
    tensor_count, key_count = reader.number("<Q"), reader.number("<Q")
    if tensor_count > _MAX_TENSORS or key_count > _MAX_KEYS:
        raise _refused(f"{tensor_count} tensors and {key_count} keys; the limits are {_MAX_TENSORS} and {_MAX_KEYS}")
    metadata: dict[str, Scalar] = {}
    arrays: dict[str, int] = {}
    for _ in range(key_count):
        key = reader.name()
        if key in metadata or key in arrays:
            raise _refused(f"the key {key} is there twice")
        kind = reader.number("<I")
        if kind == _ARRAY:
            arrays[key] = reader.skip_array(key)
        else:
            metadata[key] = reader.scalar(kind, key)
    alignment = metadata.get("general.alignment", 32)
    if isinstance(alignment, bool) or not isinstance(alignment, int) or not _is_alignment(alignment):
        raise _refused(f"general.alignment is {alignment!r}, not a power of two up to {_MAX_ALIGNMENT}")
    tensors = _tensors(reader, tensor_count, alignment)
    data_offset = -(-reader.at // alignment) * alignment
    _require_room(tensors, size - data_offset)
    return GgufHeader(
        version=version,
        alignment=alignment,
        data_offset=data_offset,
        metadata=metadata,
        arrays=arrays,
        tensors=tensors,
    )


def _tensors(reader: "_Reader", count: int, alignment: int) -> tuple[Tensor, ...]:
    found: dict[str, Tensor] = {}
    for _ in range(count):
        name = reader.name()
        if name in found:
            raise _refused(f"the tensor {name} is there twice")
        dimensions = reader.number("<I")
        if not 1 <= dimensions <= 4:
            raise _refused(f"the tensor {name} has {dimensions} dimensions")
        shape = tuple(reader.number("<Q") for _ in range(dimensions))
        elements = 1
        for dimension in shape:
            elements *= dimension
        if not 0 < elements <= _MAX_ELEMENTS:
            raise _refused(f"the tensor {name} has {elements} elements; the limit is {_MAX_ELEMENTS}")
        number = reader.number("<I")
        if number not in _TENSOR_TYPES:
            raise _refused(f"the tensor {name} has the unknown type {number}")
        type_name, block, block_bytes = _TENSOR_TYPES[number]
        if shape[0] % block:
            raise _refused(f"the tensor {name} has rows of {shape[0]} elements, {type_name} needs multiples of {block}")
        offset = reader.number("<Q")
        if offset % alignment:
            raise _refused(f"the tensor {name} starts at {offset}, which {alignment} does not divide")
        found[name] = Tensor(
            name=name, type_name=type_name, shape=shape, offset=offset, length=elements // block * block_bytes
        )
    return tuple(found.values())


def _require_room(tensors: tuple[Tensor, ...], room: int) -> None:
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset < end:
            raise _refused(f"the tensor {tensor.name} overlaps another")
        end = tensor.offset + tensor.length
        if end > room:
            raise _refused(f"the tensor {tensor.name} ends {end - room} bytes after the end of the file")


class _Reader:
    """Reads forward and never past the end."""

    def __init__(self, untrusted: bytes | mmap.mmap, end: int) -> None:
        self._untrusted = untrusted
        self._end = end
        self.at = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count > self._end - self.at:
            raise _refused(f"the header ends early: {count} bytes wanted at {self.at}, {self._end - self.at} left")
        start, self.at = self.at, self.at + count
        return self._untrusted[start : self.at]

    def number(self, form: str) -> int:
        """Return one integer."""
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def text(self, *, limit: int) -> str:
        """Return one UTF-8 string of at most `limit` bytes."""
        length = self.number("<Q")
        if length > limit:
            raise _refused(f"a text of {length} bytes at {self.at}; the limit is {limit}")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise _refused(f"a text before {self.at} is not UTF-8") from None

    def name(self) -> str:
        """Return a key or tensor name."""
        name = self.text(limit=_MAX_NAME)
        if not name or not name.isascii() or not name.isprintable():
            raise _refused(f"a name before {self.at} is empty or not printable ASCII")
        return name

    def scalar(self, kind: int, key: str) -> Scalar:
        """Return one value that is not an array."""
        if kind == _STRING:
            return self.text(limit=_MAX_TEXT)
        if kind == _BOOL:
            byte = self.take(1)
            if byte not in {b"\0", b"\1"}:
                raise _refused(f"the key {key} is neither true nor false")
            return byte == b"\1"
        if kind not in _SCALARS:
            raise _refused(f"the key {key} has the unknown type {kind}")
        form = _SCALARS[kind]
        value: int | float = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def skip_array(self, key: str) -> int:
        """Check one array, step over it and return its length. Arrays of arrays are refused: no model has one."""
        kind, count = self.number("<I"), self.number("<Q")
        if count > _MAX_ARRAY:
            raise _refused(f"the array {key} has {count} elements; the limit is {_MAX_ARRAY}")
        if kind == _STRING:
            for _ in range(count):
                # Vocabulary pieces may be any bytes, so these are not decoded.
                length = self.number("<Q")
                if length > _MAX_TEXT:
                    raise _refused(f"a text of {length} bytes in the array {key}; the limit is {_MAX_TEXT}")
                self._step(length)
        elif kind in _SCALARS or kind == _BOOL:
            self._step(count * (1 if kind == _BOOL else struct.calcsize(_SCALARS[kind])))
        else:
            raise _refused(f"the array {key} has elements of the unknown type {kind}")
        return count

    def _step(self, count: int) -> None:
        if count > self._end - self.at:
            raise _refused(f"the header ends early: {count} bytes wanted at {self.at}, {self._end - self.at} left")
        self.at += count


def _is_alignment(value: int) -> bool:
    return 0 < value <= _MAX_ALIGNMENT and value & (value - 1) == 0


def _refused(why: str) -> ScanError:
    return ScanError(
        what="the model file has a malformed GGUF header",
        why=why,
        fix="take the file from its publisher again; do not load this one with any program",
    )
