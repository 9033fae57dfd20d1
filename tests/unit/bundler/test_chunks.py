"""Small files as lines for QR codes: in any order, twice, from several piles; a misread line never passes."""

import random
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pypdf import PdfReader

from bundler import chunks
from bundler.chunks import from_lines, read_small_file, read_small_files, to_lines, write_codes
from media.errors import DigestMismatchError, LimitExceededError, MalformedError, MissingFileError, SealiftError

DATA = random.Random(7).randbytes(3000)


@given(st.binary(max_size=6000), st.randoms(use_true_random=False))
def test_lines_in_any_order_and_twice_give_the_file(data: bytes, order: random.Random) -> None:
    lines = [*to_lines(data), *to_lines(data)]
    order.shuffle(lines)

    assert from_lines(lines) == (data,)


@given(st.text(max_size=300))
def test_any_line_gives_a_file_or_our_error(line: str) -> None:
    try:
        from_lines([line, *to_lines(b"x")])
    except SealiftError:
        return


def test_two_files_may_lie_in_one_pile() -> None:
    assert set(from_lines([*to_lines(DATA), "", *to_lines(b"other")])) == {DATA, b"other"}


def test_a_line_that_misses_is_named() -> None:
    lines = to_lines(DATA)

    assert len(lines) == 3
    with pytest.raises(MissingFileError, match="line 2 of 3"):
        from_lines([lines[0], lines[2]])


def test_a_misread_letter_never_passes() -> None:
    first, *rest = to_lines(DATA)
    for place in range(first.rindex(":") + 1, len(first), 97):
        letter = "B" if first[place] != "B" else "C"
        with pytest.raises((DigestMismatchError, MalformedError)):
            from_lines([first[:place] + letter + first[place + 1 :], *rest])


def test_lines_under_another_digest_never_pass() -> None:
    other = to_lines(DATA + b"!")[0].split(":")[2]
    own = to_lines(DATA)[0].split(":")[2]

    with pytest.raises(DigestMismatchError):
        from_lines(line.replace(own, other) for line in to_lines(DATA))


@pytest.mark.parametrize("spoil", ["sealift:", "SEALIFT:S2:", "SEALIFT:S1:xyz", "hello"])
def test_what_is_no_line_is_refused(spoil: str) -> None:
    with pytest.raises(MalformedError):
        from_lines([spoil])


def test_lines_that_do_not_agree_are_refused() -> None:
    first, second, third = to_lines(DATA)
    for lines in (
        [first, second.replace("2/3", "2/4")],
        [first, third.replace("3/3", "1/3")],
        [first.replace("1/3", "4/3")],
    ):
        with pytest.raises(MalformedError):
            from_lines(lines)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LARGEST_FILE", 10**9)
    lines = to_lines(bytes(50 * 2**20))
    monkeypatch.undo()

    with pytest.raises(LimitExceededError):
        from_lines(lines)
    assert len(zlib.compress(bytes(50 * 2**20), 9)) < 60_000
    with pytest.raises(LimitExceededError):
        to_lines(bytes(chunks.LARGEST_FILE + 1))


def test_codes_are_read_back_from_their_images(tmp_path: Path) -> None:
    text, page, *images = write_codes(tmp_path / "codes", "alice", DATA, at=datetime(2026, 11, 20, 8, tzinfo=UTC))

    printed = [image.image for each in PdfReader(page).pages for image in each.images]
    assert [
        zxingcpp.read_barcodes(each.convert("L"), formats=zxingcpp.barcode_formats_from_str("QRCode"))[0].text
        for each in printed
        if each
    ] == list(to_lines(DATA))
    read = [
        zxingcpp.read_barcodes(Image.open(image).convert("L"), formats=zxingcpp.barcode_formats_from_str("QRCode"))[
            0
        ].text
        for image in images
    ]

    assert "\n".join(read) + "\n" == text.read_text()
    assert from_lines(read) == (DATA,)


def test_files_and_piles_of_lines_are_read_together(tmp_path: Path) -> None:
    first, *rest = to_lines(DATA)
    (tmp_path / "a.txt").write_text(first + "\n")
    (tmp_path / "b.txt").write_text("\n".join(rest))
    (tmp_path / "c.json").write_bytes(b'{"whole":1}')

    assert read_small_files(sorted(tmp_path.iterdir())) == (b'{"whole":1}', DATA)
    with pytest.raises(MissingFileError):
        read_small_files([tmp_path / "absent"])


@pytest.mark.parametrize(
    "saved",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.lower(),
        lambda text: text.replace(b"\n", b""),
        lambda text: b"\r\n\r\n" + text.replace(b"\n", b"\r\n"),
        lambda text: text.decode().encode("utf-16"),
        lambda text: b"\xfe\xff" + text.decode().encode("utf-16-be"),
    ],
    ids=["marked", "small letters", "no line ends", "carriage returns", "UTF-16", "UTF-16, the other way round"],
)
def test_codes_are_read_as_scanners_and_editors_save_them(tmp_path: Path, saved: Callable[[bytes], bytes]) -> None:
    data = bytes(range(256)) * 40
    file = tmp_path / "scanned.txt"
    file.write_bytes(saved("".join(f"{line}\n" for line in to_lines(random.Random(1).randbytes(4000) + data)).encode()))

    assert read_small_file(file) == (random.Random(1).randbytes(4000) + data,)


def test_what_stands_among_codes_is_named_and_not_taken_for_a_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "scanned.txt"
    file.write_text("Alice's codes:\n" + "".join(f"{line}\n" for line in to_lines(b"data")))

    with pytest.raises(MalformedError) as caught:
        read_small_file(file)

    assert "ALICE'S CODES" in caught.value.why
    assert "a file of their own" in caught.value.fix


def test_a_file_that_is_no_small_one_is_refused_and_not_read_in_part(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(chunks.LARGEST_WHOLE + 1))
    (tmp_path / "whole").write_bytes(bytes(chunks.LARGEST_WHOLE))

    with pytest.raises(LimitExceededError, match="large is no small file"):
        read_small_file(tmp_path / "large")
    assert read_small_file(tmp_path / "whole") == (bytes(chunks.LARGEST_WHOLE),)
