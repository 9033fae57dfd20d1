"""What a person is told of a medium with bad blocks: all of them, where they are, and the command that helps."""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.store.cargo import Cargo, Piece
from appliance.store.carry import Carrier
from appliance.store.content import ContentStore
from appliance.store.damage import Damage
from appliance.store.incoming import Incoming
from appliance.store.tensors import TensorNames, TensorsOnMedium, no_tensors
from media.errors import DigestMismatchError, UnreadableError
from media.layout import BLOCK_BYTES
from tests.support.cargo import Load, load

_ALIGNMENT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    damage: Damage
    tensors: TensorNames
    incoming: Incoming


def carried(folder: Path, *cargo: Cargo) -> Carried:
    incoming = Incoming.begin(ContentStore(folder / "store"), code="ab" * 32, payload_digest="cd" * 32, full=False)
    carrier = Carrier(incoming, lambda length, path: None)
    for each in cargo:
        carrier.store(each)
    carrier.run()
    return Carried(damage=carrier.damage, tensors=TensorNames(carrier, incoming), incoming=incoming)


def spoil(given: Load, *, at: int, part: int = 0) -> None:
    with given.paths[part].open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte[0] ^ 1]))


def with_content(given: Load, content: bytes, *, name: str) -> Cargo:
    """The same place on the medium, with this content and its digests."""
    given.paths[0].write_bytes(content)
    blocks = [content[start : start + BLOCK_BYTES] for start in range(0, len(content), BLOCK_BYTES)]
    return Cargo.in_pieces(
        path=name,
        sha256=hashlib.sha256(content).hexdigest(),
        length=len(content),
        blocks=tuple(hashlib.sha256(block).hexdigest() for block in blocks),
        pieces=[Piece(medium=given.medium, path="release/data/big.bin", length=len(content), volume=3)],
    )


def gguf(tensors: dict[str, int]) -> bytes:
    """A GGUF file of F32 tensors, one dimension each, behind an array of numbers such as every vocabulary has."""
    key = b"own.numbers"
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 1)
    head += struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", 9, 5, 30_000) + bytes(4 * 30_000)
    offset = 0
    for name, count in tensors.items():
        head += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<IQIQ", 1, count, 0, offset)
        offset += count * 4
    return head + bytes(-len(head) % _ALIGNMENT) + bytes(offset)


def safetensors(tensors: dict[str, int]) -> bytes:
    header, at = {}, 0
    for name, length in tensors.items():
        header[name] = {"dtype": "U8", "shape": [length], "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


TENSORS = {"blk.0.attn_q.weight": BLOCK_BYTES // 8, "blk.0.attn_k.weight": BLOCK_BYTES // 8, "output.weight": 1000}


def test_every_bad_block_is_found_in_one_pass_and_all_else_is_kept(tmp_path: Path) -> None:
    loads = [load(tmp_path / str(number), 3000 + number, name=f"data/f{number}") for number in range(6)]
    for number in (1, 4):
        spoil(loads[number], at=5)

    found = carried(tmp_path, *(each.cargo for each in loads))

    error = found.damage.error(no_tensors)
    assert isinstance(error, DigestMismatchError)
    assert "bytes 0 to 3000 of data/f1" in error.what
    assert "volume 1: bytes 0 to 3003 of data/f4; 2 bad blocks in all" in error.why
    assert "`sealift-bundler remake WORK MEDIUM --volume 1`" in error.fix
    sound = [each for number, each in enumerate(loads) if number not in (1, 4)]
    assert set(found.incoming.journal.complete) == {each.cargo.sha256 for each in sound}
    assert [(each["file"], each["readable"]) for each in found.damage.to_json(no_tensors)] == [
        ("data/f1", True),
        ("data/f4", True),
    ]


@pytest.mark.parametrize(("make", "suffix"), [(gguf, "gguf"), (safetensors, "safetensors")])
def test_the_tensor_in_a_bad_range_is_named_from_the_proven_header(tmp_path: Path, make: object, suffix: str) -> None:
    given = load(tmp_path / "v", 1)
    sizes = {name: count * (1 if suffix == "gguf" else 4) for name, count in TENSORS.items()}
    content = make(sizes)  # type: ignore[operator]
    cargo = with_content(given, content, name=f"data/models/tiny/tiny.{suffix}")
    spoil(given, at=BLOCK_BYTES + 10)

    found = carried(tmp_path, cargo)

    error = found.damage.error(found.tensors)
    assert "volume 3 (volume folder 1)" in error.what
    assert f"bytes {BLOCK_BYTES} to {len(content) - 1} of" in error.what
    assert "(tensor blk.0.attn_k.weight, output.weight)" in error.what
    assert "--volume 3`" in error.fix


@pytest.mark.parametrize(("make", "suffix"), [(gguf, "gguf"), (safetensors, "safetensors")])
def test_a_check_that_stores_nothing_names_tensors_too(tmp_path: Path, make: object, suffix: str) -> None:
    given = load(tmp_path / "v", 1)
    sizes = {name: count * (1 if suffix == "gguf" else 4) for name, count in TENSORS.items()}
    cargo = with_content(given, make(sizes), name=f"data/models/tiny/tiny.{suffix}")  # type: ignore[operator]
    spoil(given, at=BLOCK_BYTES + 10)
    carrier = Carrier(None, lambda length, path: None)
    carrier.check(cargo, lingers=True)
    carrier.run()

    error = carrier.damage.error(TensorsOnMedium(carrier))
    carrier.let_go()

    assert "(tensor blk.0.attn_k.weight, output.weight)" in error.what
    assert error.details is not None
    (block,) = error.details["blocks"]
    assert (block["volume"], block["first_byte"], block["tensors"]) == (
        3,
        BLOCK_BYTES,
        ["blk.0.attn_k.weight", "output.weight"],
    )


def test_no_tensor_is_named_when_the_header_itself_is_bad(tmp_path: Path) -> None:
    given = load(tmp_path / "v", 1)
    cargo = with_content(given, gguf(TENSORS), name="data/models/tiny/tiny.gguf")
    spoil(given, at=40)

    found = carried(tmp_path, cargo)

    assert "tensor" not in found.damage.error(found.tensors).what


def test_blocks_that_cannot_be_read_are_no_verdict_on_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = [load(tmp_path / str(number), 5000 + number, name=f"data/f{number}") for number in range(3)]
    bad = str(loads[1].paths[0])
    real = os.preadv

    def failing(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if str(Path(f"/proc/self/fd/{descriptor}").readlink()) == bad:
            raise OSError(5, "Input/output error")
        return real(descriptor, buffers, offset)

    monkeypatch.setattr("appliance.store.opened.os.preadv", failing)
    found = carried(tmp_path, *(each.cargo for each in loads))

    error = found.damage.error(no_tensors)
    assert isinstance(error, UnreadableError)
    assert "clean the contacts" in error.fix
    assert "--volume 1`" in error.fix
    assert found.damage.count == 1


def test_a_medium_that_gives_nothing_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = [load(tmp_path / str(number), 10 + number, name=f"data/f{number}") for number in range(60)]

    def failing(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("appliance.store.opened.os.preadv", failing)
    found = carried(tmp_path, *(each.cargo for each in loads))

    assert 16 <= found.damage.count < 30
    assert isinstance(found.damage.error(no_tensors), UnreadableError)


def test_bad_small_files_do_not_use_up_the_open_files(tmp_path: Path) -> None:
    loads = [load(tmp_path / str(number), 10 + number, name=f"data/f{number}") for number in range(150)]
    for each in loads:
        spoil(each, at=3)

    found = carried(tmp_path, *(each.cargo for each in loads))

    assert found.damage.count == 150
    assert "150 bad blocks in all" in found.damage.error(no_tensors).why
