"""Pickled objects by content, under whatever name: reading one runs the code that it names.

Told apart without reading any object: by first bytes, by disassembling (which runs nothing), and by the directory of a
ZIP archive, which lies at the end of a file and is found there by loaders even when something else lies in front.
"""

import io
import pickletools
import re
import struct
import warnings
import zipfile
from typing import BinaryIO, Final

START_BYTES: Final = 256 * 1024
"""How much of a file's start `disguise` looks at."""

_MAX_CODES: Final = 20_000
_MAX_MEMBERS: Final = 10_000
_TAIL: Final = 66_000  # a ZIP directory's end is found in the last 64 KiB
# What is called must be named first, by one of these.
_NAMING: Final = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"})
_NAME: Final = re.compile(r"[A-Za-z_][\w.]* [\w.<>]+")
_CONTAINERS: Final = (
    (b"PK\x03\x04", "a ZIP archive, as torch.save writes them"), (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x78\x01", "zlib data, as joblib writes it"), (b"\x78\x9c", "zlib data, as joblib writes it"),
    (b"\x78\xda", "zlib data, as joblib writes it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"Rar!\x1a\x07", "a RAR archive"), (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"), (b"\xfd7zXZ\0", "xz data"), (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"\x04\x22\x4d\x18", "lz4 data"), (b"\x89HDF\r\n\x1a\n", "HDF5, which may hold pickled layers"),
)  # fmt: skip
_PROGRAMS: Final = (
    (b"\x7fELF", "a program for Linux"), (b"MZ\x90\0", "a program for Windows"),
    (b"\xcf\xfa\xed\xfe", "a program for macOS"), (b"\xca\xfe\xba\xbe", "Java classes or a program for macOS"),
    (b"#!/", "a script"),
)  # fmt: skip
_PICKLE_MEMBER: Final = re.compile(r"(?:^|/)(?:data\.pkl|[^/]+\.(?:pkl|pickle|joblib))$", re.IGNORECASE)
_OBJECT_ARRAY: Final = re.compile(rb"'descr'\s*:\s*[^,}]*\|?O")
_UNREADABLE: Final = (
    zipfile.BadZipFile, struct.error, ValueError, OverflowError, NotImplementedError, EOFError, RuntimeError, KeyError,
)  # fmt: skip


def disguise(start: bytes) -> str:
    """Return what the first bytes of a file are, where they are pickled objects or may hide them; else nothing."""
    if known := next((what for magic, what in _CONTAINERS if start.startswith(magic)), ""):
        return known
    if start[257:262] == b"ustar":
        return "a tar archive, as old versions of torch.save wrote them"
    if start.startswith(b"\x93NUMPY"):
        kind = "of Python objects" if _OBJECT_ARRAY.search(start[:4096]) else "in a format that may hold objects"
        return f"a NumPy array {kind}"
    if start[:1] == b"\x80" and start[1:2] in {b"\2", b"\3", b"\4", b"\5"}:
        return f"pickled objects, protocol {start[1]}"
    return "pickled objects, an old protocol" if runs_code(start) else ""


def program(start: bytes) -> str:
    """Return which kind of program the first bytes of a file begin; else nothing."""
    return next((what for magic, what in _PROGRAMS if start.startswith(magic)), "")


def runs_code(data: bytes) -> bool:
    """Whether bytes are a whole pickle, of any protocol, that names something to be called. Nothing is run."""
    with warnings.catch_warnings():
        # Python warns of backslashes in a text's line, which in any other file stand by accident.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return _names_something(data)
        except (ValueError, IndexError, KeyError, OverflowError, struct.error, AttributeError, TypeError):
            return False


def _names_something(data: bytes) -> bool:
    names = False
    for number, (code, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
        if code.name in _NAMING:
            names |= not isinstance(argument, str) or _NAME.fullmatch(argument) is not None
        if code.name == "STOP" or number > _MAX_CODES:
            # So long a run of valid codes is no accident either.
            return names
    return False


def appended(untrusted: BinaryIO, *, size: int) -> str:
    """Return what archive a file ends with, whatever it starts with; else nothing."""
    at = max(0, size - _TAIL)
    untrusted.seek(at)
    tail = untrusted.read(_TAIL)
    if b"PK\x05\x06" not in tail:
        return ""
    try:
        if zipfile.is_zipfile(untrusted):
            return "a ZIP archive at its end, which loaders of archives find there"
    except _UNREADABLE:
        return "something like a ZIP archive at its end"
    return ""


def inside(archive: bytes) -> str:
    """Return the name of a pickled member of a ZIP archive; else nothing."""
    if not archive.startswith(b"PK\x03\x04"):
        return ""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            names = opened.namelist()[:_MAX_MEMBERS]
    except _UNREADABLE:
        return ""
    return next((name[:100] for name in names if _PICKLE_MEMBER.search(name)), "")
