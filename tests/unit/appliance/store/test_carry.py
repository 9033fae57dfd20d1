"""One file from medium to store: what is kept is what was signed, and an interrupted file goes on where it stopped."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.store.cargo import Cargo
from appliance.store.carry import Carrier
from appliance.store.content import ContentStore
from appliance.store.incoming import Incoming
from appliance.store.tensors import TensorNames, no_tensors
from media.errors import DigestMismatchError, MissingFileError, UnsafePathError
from media.layout import BLOCK_BYTES
from tests.support.cargo import load

pytestmark = pytest.mark.slow

CODE, PAYLOAD = "ab" * 32, "cd" * 32
TWO_BLOCKS = BLOCK_BYTES + 70_001


def begin(folder: Path, *, full: bool = False) -> Incoming:
    return Incoming.begin(ContentStore(folder / "store"), code=CODE, payload_digest=PAYLOAD, full=full)


def carry(incoming: Incoming, *cargo: Cargo) -> int:
    """Store cargo; return how many bytes were reported as done."""
    done: list[int] = []
    carrier = Carrier(incoming, lambda length, path: done.append(length))
    for each in cargo:
        carrier.store(each)
    carrier.run()
    if carrier.damage.count:
        raise carrier.damage.error(TensorNames(carrier, incoming))
    return sum(done)


def kept(incoming: Incoming) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (incoming.folder / "objects").iterdir()}


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 4 * 2**20, 4 * 2**20 + 1, 9 * 2**20 + 5])
def test_a_file_of_any_length_is_kept_byte_for_byte(tmp_path: Path, length: int) -> None:
    given, incoming = load(tmp_path / "v", length), begin(tmp_path)

    assert carry(incoming, given.cargo) == length

    object_path = incoming.folder / "objects" / given.cargo.sha256
    assert object_path.read_bytes() == given.content
    assert object_path.stat().st_mode & 0o777 == 0o444
    assert incoming.journal.complete == {given.cargo.sha256: length}


def test_a_file_of_two_blocks_is_proven_by_blocks(tmp_path: Path) -> None:
    given, incoming = load(tmp_path / "v", TWO_BLOCKS), begin(tmp_path)

    carry(incoming, given.cargo)

    assert (incoming.folder / "objects" / given.cargo.sha256).read_bytes() == given.content


def test_a_file_in_parts_is_joined_in_block_order(tmp_path: Path) -> None:
    given, incoming = load(tmp_path / "v", TWO_BLOCKS, cut_at=(1,)), begin(tmp_path)

    carry(incoming, given.cargo)

    assert (incoming.folder / "objects" / given.cargo.sha256).read_bytes() == given.content


def test_parts_in_another_order_are_not_that_file(tmp_path: Path) -> None:
    given, incoming = load(tmp_path / "v", 2 * BLOCK_BYTES, cut_at=(1,)), begin(tmp_path)
    data = bytearray(given.content[:BLOCK_BYTES])
    data[0] ^= 1
    given.paths[0].write_bytes(data)
    swapped = replace(given.cargo, origins=given.cargo.origins[::-1])

    with pytest.raises(DigestMismatchError):
        carry(incoming, swapped)


@pytest.mark.parametrize("at", [0, BLOCK_BYTES - 1, BLOCK_BYTES, TWO_BLOCKS - 1])
def test_one_flipped_bit_is_found_with_its_volume_and_bytes(tmp_path: Path, at: int) -> None:
    given, incoming = load(tmp_path / "v", TWO_BLOCKS), begin(tmp_path)
    with given.paths[0].open("r+b") as stream:
        stream.seek(at)
        stream.write(bytes([given.content[at] ^ 0x10]))

    with pytest.raises(
        DigestMismatchError, match=r"volume 1 \(volume folder 1\): release/data/big\.bin is damaged"
    ) as refusal:
        carry(incoming, given.cargo)

    first = at // BLOCK_BYTES * BLOCK_BYTES
    assert f"bytes {first} to {min(first + BLOCK_BYTES, TWO_BLOCKS) - 1}" in refusal.value.what
    assert given.cargo.sha256 not in kept(incoming)
    assert not incoming.journal.complete


def test_a_file_of_one_block_is_proven_under_the_name_it_gets(tmp_path: Path) -> None:
    given, incoming = load(tmp_path / "v", 0), begin(tmp_path)

    with pytest.raises(DigestMismatchError):
        carry(incoming, replace(given.cargo, sha256="00" * 32))

    assert "00" * 32 not in kept(incoming)


@pytest.mark.parametrize("change", [-1, 1, -5_000_000])
def test_a_part_that_is_not_as_long_as_signed_is_refused(tmp_path: Path, change: int) -> None:
    given, incoming = load(tmp_path / "v", 9 * 2**20), begin(tmp_path)
    os.truncate(given.paths[0], 9 * 2**20 + change)

    with pytest.raises(DigestMismatchError, match="not as long as signed"):
        carry(incoming, given.cargo)


def test_a_part_that_is_gone_or_became_a_link_is_refused(tmp_path: Path) -> None:
    given, incoming = load(tmp_path / "v", 100), begin(tmp_path)
    given.paths[0].unlink()
    with pytest.raises(MissingFileError):
        carry(incoming, given.cargo)

    other = load(tmp_path / "w", 100)
    other.paths[0].unlink()
    other.paths[0].symlink_to("/etc/passwd")
    with pytest.raises(UnsafePathError):
        carry(incoming, other.cargo)


def test_what_a_cut_left_is_hashed_again_and_not_read_from_the_medium(tmp_path: Path) -> None:
    given, incoming = load(tmp_path / "v", TWO_BLOCKS, cut_at=(1,)), begin(tmp_path)
    part = incoming.folder / "objects" / f"{given.cargo.sha256}.part"
    part.write_bytes(given.content[:BLOCK_BYTES] + b"\0" * 70_001)
    incoming.journal.record_blocks({given.cargo.sha256: [0]})
    given.paths[0].unlink()

    carry(incoming, given.cargo)

    assert (incoming.folder / "objects" / given.cargo.sha256).read_bytes() == given.content


def test_a_kept_block_that_no_longer_holds_is_read_from_the_medium_again(tmp_path: Path) -> None:
    given, incoming = load(tmp_path / "v", TWO_BLOCKS), begin(tmp_path)
    part = incoming.folder / "objects" / f"{given.cargo.sha256}.part"
    part.write_bytes(b"\1" * TWO_BLOCKS)
    incoming.journal.record_blocks({given.cargo.sha256: [0]})

    carry(incoming, given.cargo)

    assert (incoming.folder / "objects" / given.cargo.sha256).read_bytes() == given.content


def test_a_longer_leftover_does_not_lengthen_the_object(tmp_path: Path) -> None:
    given, incoming = load(tmp_path / "v", 5000), begin(tmp_path)
    (incoming.folder / "objects" / f"{given.cargo.sha256}.part").write_bytes(b"x" * 9000)

    carry(incoming, given.cargo)

    assert kept(incoming) == {given.cargo.sha256: 5000}


def test_many_files_are_kept_without_holding_many_open(tmp_path: Path) -> None:
    loads = [load(tmp_path / str(number), 100 + number) for number in range(300)]
    incoming = begin(tmp_path)

    carry(incoming, *(each.cargo for each in loads))

    assert len(incoming.journal.complete) == 300
    assert len(list(Path("/proc/self/fd").iterdir())) < 1000


def test_checking_writes_nothing(tmp_path: Path) -> None:
    def check(cargo: Cargo) -> None:
        carrier = Carrier(None, lambda length, path: None)
        carrier.check(cargo)
        carrier.run()
        if carrier.damage.count:
            raise carrier.damage.error(no_tensors)

    check(load(tmp_path / "v", TWO_BLOCKS).cargo)
    other = load(tmp_path / "w", 100)
    other.paths[0].write_bytes(b"\0" * 100)

    with pytest.raises(DigestMismatchError):
        check(other.cargo)
