"""A strict reader of GGUF headers, so that no malformed model file ever reaches llama.cpp's own loader.

Rules, each the shape of a published fault in a loader (integer overflows in counts, dimensions and offsets):

* magic ``GGUF``, version 2 or 3, little-endian; counts, name lengths and the whole header below caps;
* every string and array fits into what is left of the file before a byte of it is read; no array holds arrays;
* no key and no tensor name twice; keys and tensor names are short printable ASCII; text is UTF-8;
* alignment is an unsigned power of two; at most four dimensions, none zero, their product below 2**48; a known type;
* the tensors lie aligned, in the order of the header, without holes or overlap, and the file ends where they end;
* the arrays of the vocabulary have one length and the types that a loader reads without asking.

Only the header is read: a file that claims a petabyte is judged as fast as a small one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from media.errors import UnreadableError
from media.gguf_fields import BYTES, FLOAT32, INT32, STRING, UINT32, ArrayFacts, FieldReader, Scalar, refused

_MAX_KEYS: Final = 4096
_MAX_TENSORS: Final = 65536
_MAX_HEADER: Final = 128 * 2**20
_MAX_TENSOR_NAME: Final = 63  # ggml copies names into 64 bytes
_MAX_ELEMENTS: Final = 2**48
_MAX_ALIGNMENT: Final = 2**16
_ALIGNMENT_KEY: Final = "general.alignment"
_TOKENS: Final = "tokenizer.ggml.tokens"
# Arrays that llama.cpp reads by pointer, as this type, once for each token or as long as they are.
_VOCABULARY: Final = {
    _TOKENS: frozenset({STRING}), "tokenizer.ggml.scores": frozenset({FLOAT32}),
    "tokenizer.ggml.token_type": frozenset({INT32}), "tokenizer.ggml.merges": frozenset({STRING}),
    "tokenizer.ggml.precompiled_charsmap": BYTES,
}  # fmt: skip
_FOR_EACH_TOKEN: Final = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type")

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
    def embedding_length(self) -> int:
        """How many numbers a state has; 0 where the file does not say."""
        found = self.metadata.get(f"{self.architecture}.embedding_length", 0)
        return found if isinstance(found, int) else 0

    @property
    def parameters(self) -> int:
        """The number of weights in all tensors."""
        return sum(_product(tensor.shape) for tensor in self.tensors)

    def tensors_in(self, first: int, end: int) -> Iterator[Tensor]:
        """Yield the tensors with a byte from `first` to before `end`, counted from the start of the file."""
        for tensor in self.tensors:
            start = self.data_offset + tensor.offset
            if start < end and first < start + tensor.length:
                yield tensor


def read(path: Path) -> GgufHeader:
    """Check the header of a file.

    Raises:
        MalformedError: It breaks a rule of this module.
        UnreadableError: It cannot be read.
    """
    try:
        with path.open("rb") as untrusted:
            return parse_file(untrusted, size=path.stat().st_size)
    except OSError as error:
        raise UnreadableError(
            what=f"{path.name} cannot be read", why=error.strerror or "", fix="check the file"
        ) from error


def parse(untrusted: bytes, *, size: int) -> GgufHeader:
    """Check the first bytes of a file of `size` bytes.

    Raises:
        MalformedError: They break a rule of this module, or the header is longer than they are.
    """
    return _parse(FieldReader(BytesIO(untrusted), min(size, len(untrusted), _MAX_HEADER)), size)


def parse_file(untrusted: BinaryIO, *, size: int) -> GgufHeader:
    """Check the header of an open file of `size` bytes that stands at its start.

    Raises:
        MalformedError: It breaks a rule of this module.
        OSError: It cannot be read.
    """
    return _parse(FieldReader(untrusted, min(size, _MAX_HEADER)), size)


def _parse(reader: FieldReader, size: int) -> GgufHeader:
    if reader.take(4) != b"GGUF":
        raise refused("it does not start with GGUF")
    version = reader.number("<I")
    if version not in {2, 3}:
        raise refused(f"version {version}; 2 and 3 are known (a file of the other byte order reads as neither)")
    tensor_count, key_count = reader.number("<Q"), reader.number("<Q")
    if tensor_count > _MAX_TENSORS or key_count > _MAX_KEYS:
        raise refused(f"{tensor_count} tensors and {key_count} keys; the limits are {_MAX_TENSORS} and {_MAX_KEYS}")
    metadata: dict[str, Scalar] = {}
    arrays: dict[str, ArrayFacts] = {}
    alignment = 32
    for _ in range(key_count):
        key = reader.name()
        if key in metadata or key in arrays:
            raise refused(f"the key {key} is there twice")
        kind, value = reader.value(key)
        if key == _ALIGNMENT_KEY:
            alignment = _alignment(kind, value)
        if isinstance(value, ArrayFacts):
            arrays[key] = value
        else:
            metadata[key] = value
    _require_vocabulary(arrays)
    tensors = _tensors(reader, tensor_count, alignment)
    data_offset = -(-reader.at // alignment) * alignment
    _require_layout(tensors, size - data_offset, alignment)
    return GgufHeader(
        version=version,
        alignment=alignment,
        data_offset=data_offset,
        metadata=metadata,
        arrays={key: facts.count for key, facts in arrays.items()},
        tensors=tensors,
    )


def _alignment(kind: int, value: Scalar | ArrayFacts) -> int:
    if kind == UINT32 and isinstance(value, int) and 0 < value <= _MAX_ALIGNMENT and value & (value - 1) == 0:
        return value
    shown = "an array" if isinstance(value, ArrayFacts) else repr(value)[:80]
    raise refused(f"{_ALIGNMENT_KEY} is {shown} of type {kind}, not a power of two up to {_MAX_ALIGNMENT}")


def _require_vocabulary(arrays: Mapping[str, ArrayFacts]) -> None:
    """Refuse arrays that a loader would read beyond their end, or as another type than theirs."""
    for key, kinds in _VOCABULARY.items():
        if key in arrays and arrays[key].kind not in kinds:
            raise refused(f"the array {key} has elements of type {arrays[key].kind}")
    for key in _FOR_EACH_TOKEN:
        if key in arrays and (_TOKENS not in arrays or arrays[key].count != arrays[_TOKENS].count):
            tokens = arrays[_TOKENS].count if _TOKENS in arrays else 0
            raise refused(f"the array {key} has {arrays[key].count} elements for {tokens} tokens")


def _tensors(reader: FieldReader, count: int, alignment: int) -> tuple[Tensor, ...]:
    found: dict[str, Tensor] = {}
    for _ in range(count):
        tensor = _tensor(reader, alignment)
        if tensor.name in found:
            raise refused(f"the tensor {tensor.name} is there twice")
        found[tensor.name] = tensor
    return tuple(found.values())


def _tensor(reader: FieldReader, alignment: int) -> Tensor:
    name = reader.name(limit=_MAX_TENSOR_NAME)
    dimensions = reader.number("<I")
    if not 1 <= dimensions <= 4:
        raise refused(f"the tensor {name} has {dimensions} dimensions")
    shape = tuple(reader.number("<Q") for _ in range(dimensions))
    elements = _product(shape)
    if not 0 < elements <= _MAX_ELEMENTS:
        raise refused(f"the tensor {name} has {elements} elements; the limit is {_MAX_ELEMENTS}")
    number = reader.number("<I")
    if number not in _TENSOR_TYPES:
        raise refused(f"the tensor {name} has the unknown type {number}")
    type_name, block, block_bytes = _TENSOR_TYPES[number]
    if shape[0] % block:
        raise refused(f"the tensor {name} has rows of {shape[0]} elements, {type_name} needs multiples of {block}")
    offset = reader.number("<Q")
    if offset % alignment:
        raise refused(f"the tensor {name} starts at {offset}, which {alignment} does not divide")
    return Tensor(name=name, type_name=type_name, shape=shape, offset=offset, length=elements // block * block_bytes)


def _require_layout(tensors: tuple[Tensor, ...], room: int, alignment: int) -> None:
    expected = 0
    for tensor in tensors:
        end = tensor.offset + tensor.length
        if end > room:
            raise refused(f"the tensor {tensor.name} ends {end - room} bytes after the end of the file")
        if tensor.offset < expected:
            raise refused(f"the tensor {tensor.name} overlaps another or is out of order")
        if tensor.offset > expected:
            raise refused(f"there is a hole of {tensor.offset - expected} bytes before the tensor {tensor.name}")
        expected = -(-end // alignment) * alignment
    if room > expected:
        raise refused(f"{room - expected} bytes follow the last tensor")


def _product(shape: tuple[int, ...]) -> int:
    elements = 1
    for dimension in shape:
        elements *= dimension
    return elements
