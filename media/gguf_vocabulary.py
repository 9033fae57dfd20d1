"""The vocabulary that a GGUF file carries: its digest, and which of its tokens are control tokens.

The digest is SHA-256 over every key that begins with ``tokenizer.ggml.``, in the order of the keys, each as the key, a
zero byte, the length of its value in eight bytes (little-endian) and the value as the file has it. So it is that of the
tokenizer alone: quantizing does not change it, and a swapped, renamed or retyped token does.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

from media.errors import UnreadableError
from media.gguf_fields import INT32, STRING, ArrayFacts, FieldReader, refused

_MAX_HEADER: Final = 128 * 2**20
_MAX_KEYS: Final = 4096
_PREFIX: Final = "tokenizer.ggml."
_TOKENS: Final = "tokenizer.ggml.tokens"
_TYPES: Final = "tokenizer.ggml.token_type"
_START: Final = "tokenizer.ggml.bos_token_id"
_END: Final = "tokenizer.ggml.eos_token_id"
_ARRAY: Final = 9
_CONTROL: Final = 3  # llama.cpp: LLAMA_TOKEN_TYPE_CONTROL
_USER_DEFINED: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a file says of its tokenizer.

    Attributes:
        sha256: The digest above; that of nothing where the file carries no tokenizer.
        texts_sha256: That of the tokens alone, in their order: two files with the same one call the same things by the
            same numbers, whatever else their tokenizers do.
        tokens: How many tokens there are.
        control: Control tokens by number: texts that a model was taught to obey, such as the end of a turn.
        defined: Other tokens that a text becomes whole, by number.
        start: The text of the token that begins a sequence; empty where the file names none.
        end: That of the one that ends it.
    """

    sha256: str
    texts_sha256: str
    tokens: int
    control: Mapping[int, str]
    defined: Mapping[int, str]
    start: str = ""
    end: str = ""


def read(path: Path) -> Vocabulary:
    """Read a file's vocabulary; `media.gguf.read` judges the rest of the header.

    Raises:
        MalformedError: It is no GGUF file, or a field does not fit.
        UnreadableError: It cannot be read.
    """
    try:
        with path.open("rb") as untrusted:
            return _read(untrusted, path.stat().st_size)
    except OSError as error:
        raise UnreadableError(
            what=f"{path.name} cannot be read", why=error.strerror or "", fix="check the file"
        ) from error


def _read(untrusted: BinaryIO, size: int) -> Vocabulary:
    reader = FieldReader(untrusted, min(size, _MAX_HEADER))
    if reader.take(4) != b"GGUF":
        raise refused("it does not start with GGUF")
    reader.number("<I")
    reader.number("<Q")
    keys = reader.number("<Q")
    if keys > _MAX_KEYS:
        raise refused(f"{keys} keys; the limit is {_MAX_KEYS}")
    places: dict[str, tuple[int, int]] = {}
    facts: dict[str, ArrayFacts] = {}
    numbers: dict[str, int] = {}
    for _ in range(keys):
        name, begin = reader.name(), reader.at
        if name in places:  # of two, what one says would be taken for the other's
            raise refused(f"the key {name} is there twice")
        _, value = reader.value(name)
        if name.startswith(_PREFIX):
            places[name] = (begin, reader.at)
            if isinstance(value, ArrayFacts):
                facts[name] = value
            elif type(value) is int:
                numbers[name] = value
    kept: dict[str, bytes] = {}
    hashed = sha256()
    for name, (begin, end) in sorted(places.items()):
        untrusted.seek(begin)
        content = untrusted.read(end - begin)
        hashed.update(name.encode() + b"\0" + struct.pack("<Q", len(content)) + content)
        if name in {_TOKENS, _TYPES}:
            kept[name] = content[16:]  # type of the key, type of the elements, their number
    count = facts[_TOKENS].count if _TOKENS in facts else 0
    is_text = count > 0 and facts[_TOKENS].kind == STRING
    texts = list(_texts(kept[_TOKENS], count)) if is_text else []
    named = _marked(texts, kept, facts)
    begins, ends = (_text_of(texts, numbers.get(name, count)) for name in (_START, _END))
    return Vocabulary(
        sha256=hashed.hexdigest(),
        texts_sha256=sha256(kept.get(_TOKENS, b"")).hexdigest(),
        tokens=count,
        control=named[_CONTROL],
        defined=named[_USER_DEFINED],
        start=begins,
        end=ends,
    )


def _texts(content: bytes, count: int) -> Iterator[bytes]:
    at = 0
    for _ in range(count):
        length = int.from_bytes(content[at : at + 8], "little")
        yield content[at + 8 : at + 8 + length]
        at += 8 + length


def _text_of(texts: Sequence[bytes], number: int) -> str:
    return texts[number].decode(errors="replace") if 0 <= number < len(texts) else ""


def _marked(
    texts: Sequence[bytes], kept: Mapping[str, bytes], facts: Mapping[str, ArrayFacts]
) -> dict[int, dict[int, str]]:
    marked: dict[int, dict[int, str]] = {_CONTROL: {}, _USER_DEFINED: {}}
    tokens, types = facts.get(_TOKENS), facts.get(_TYPES)
    if tokens is None or types is None:
        return marked
    if tokens.kind != STRING or types.kind != INT32 or types.count != tokens.count:
        raise refused("its vocabulary and their types do not belong together")
    kinds = struct.unpack(f"<{types.count}i", kept[_TYPES])
    for number, (kind, text) in enumerate(zip(kinds, texts, strict=True)):
        if kind in marked:
            marked[kind][number] = text.decode(errors="replace")
    return marked
