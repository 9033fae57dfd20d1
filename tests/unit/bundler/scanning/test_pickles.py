"""Pickled objects are found by content. The pickles here are written by hand, because nothing of ours pickles."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import ScanError
from bundler.scan import scan
from bundler.scanning import pickles
from tests.support.payload import artifact, gguf, safetensors, wheel

STACKED = b"\x95\x1d" + bytes(7) + b"\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94."
# os.system("id"), as protocols 0 to 5 write it.
CALLS = {
    0: b"cposix\nsystem\np0\n(Vid\np1\ntp2\nRp3\n.",
    1: b"cposix\nsystem\nq\x00(X\x02\x00\x00\x00idq\x01tq\x02Rq\x03.",
    2: b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.",
    3: b"\x80\x03cposix\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.",
    4: b"\x80\x04" + STACKED,
    5: b"\x80\x05" + STACKED,
}


def zipped(name: str, data: bytes = b"x") -> bytes:
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w") as archive:
        # The time of day stands in an archive: the same bytes in each run.
        archive.writestr(zipfile.ZipInfo(name, (2026, 10, 29, 11, 58, 58)), data)
    return place.getvalue()


def tarred() -> bytes:
    place = io.BytesIO()
    with tarfile.open(fileobj=place, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    return place.getvalue()


DISGUISES = {
    **{f"protocol {number}": data for number, data in CALLS.items()},
    "an instance, protocol 0": b"(iposix\nsystem\n.",
    "torch's ZIP": zipped("archive/data.pkl", CALLS[2]),
    "an empty ZIP": b"PK\x05\x06" + bytes(18),
    "tar": tarred(),
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(40),
    "RAR": b"Rar!\x1a\x07\x01\x00" + bytes(40),
    "joblib with zlib": zlib.compress(CALLS[4]),
    "gzip": gzip.compress(CALLS[4]),
    "bzip2": bz2.compress(CALLS[4]),
    "xz": lzma.compress(CALLS[4]),
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(40),
    "lz4": b"\x04\x22\x4d\x18" + bytes(40),
    "an array of objects": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    + CALLS[4],
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(40),
}


@pytest.mark.parametrize("what", DISGUISES)
def test_pickled_objects_are_told_by_their_content_under_any_name(tmp_path: Path, what: str) -> None:
    assert pickles.disguise(DISGUISES[what])
    for name, kind in (("vocab.json", "model"), ("m.gguf", "weights"), ("notes.md", "model")):
        path = tmp_path / name
        path.write_bytes(DISGUISES[what])
        with pytest.raises(ScanError):
            scan([artifact(path, target=f"data/models/m/{name}", kind=kind)])


def test_an_array_of_objects_is_named_as_such() -> None:
    assert "of Python objects" in pickles.disguise(DISGUISES["an array of objects"])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"a": [1, 2]}',
        b"Copyright (c) 2012\nAll rights reserved. Redistribution and use\n",
        b"chat\nsystem\nuser\n.",
        b"import os\n",
        b"(the end)\n.",
        b"# Readme\n",
        b"N.",
        b"I1\n.",
        "naïve\n".encode(),
    ],
)
def test_plain_text_is_no_pickle(text: bytes) -> None:
    assert pickles.disguise(text) == ""


@pytest.mark.parametrize(
    "made", [gguf(), safetensors({"a": ("U8", (4,), (0, 4))}, data=4)], ids=["gguf", "safetensors"]
)
def test_an_archive_behind_weights_is_found(made: bytes) -> None:
    """A loader of archives looks at a file's end first, whatever its name and start."""
    assert pickles.appended(io.BytesIO(made), size=len(made)) == ""
    both = made + zipped("archive/data.pkl", CALLS[2])

    assert "a ZIP archive at its end" in pickles.appended(io.BytesIO(both), size=len(both))


def test_an_archive_inside_the_data_of_safetensors_is_found(tmp_path: Path) -> None:
    """The header is in order and covers every byte; the last tensor is an archive."""
    hidden = zipped("archive/data.pkl", CALLS[2])
    header = f'{{"a":{{"dtype":"U8","shape":[{len(hidden)}],"data_offsets":[0,{len(hidden)}]}}}}'.encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + hidden)

    with pytest.raises(ScanError, match="may not travel: pickle"):
        scan([artifact(path, target="data/models/m/m.safetensors", kind="weights")])


@pytest.mark.parametrize(
    ("member", "data"),
    [
        ("a/table.bin", CALLS[4]),
        ("a/notes.txt", CALLS[0]),
        ("a/weights.dat", zipped("archive/data.pkl", CALLS[2])),
        ("a/old.PICKLE", b"anything"),
    ],
)
def test_pickled_objects_in_a_wheel_are_found_under_any_name(tmp_path: Path, member: str, data: bytes) -> None:
    with pytest.raises(ScanError, match=f"{member} may not travel: pickle"):
        scan([artifact(wheel(tmp_path, "a", files={"a/__init__.py": b"", member: data}))])


def test_programs_beside_weights_are_found_by_content(tmp_path: Path) -> None:
    for number, start in enumerate((b"\x7fELF", b"MZ\x90\0", b"#!/bin/sh\n", b"\xca\xfe\xba\xbe")):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(start + bytes(64))
        with pytest.raises(ScanError, match="unexpected-file"):
            scan([artifact(path, target=f"data/models/m/{number}.txt", kind="model")])


def test_backslashes_that_mean_nothing_neither_warn_nor_hide_a_call() -> None:
    # Warnings are errors here: Python's disassembler warns of each such backslash.
    assert not pickles.runs_code(b"PK\x03\x04\x14\x00\\\xa8w]P\n.")
    assert pickles.runs_code(b"S'\\q'\n0" + CALLS[0])


@given(st.binary(max_size=400))
def test_any_bytes_are_judged_without_an_error_and_without_running(data: bytes) -> None:
    for start in (data, b"\x80\x04" + data, b"PK\x03\x04" + data, b"c" + data):
        assert isinstance(pickles.disguise(start), str)
        assert isinstance(pickles.inside(start), str)
        assert isinstance(pickles.appended(io.BytesIO(start), size=len(start)), str)
        assert pickles.runs_code(start) in {True, False}
