"""Every way in which one file of a medium can come out wrong: chosen by number, done in place, undone afterwards.

    for number in range(2000):
        with spoilt(medium, number, other=next_medium) as what:
            ...                                   # `what` says which file and what was done to it

The file is drawn by class first, so that small classes get as many faults as large ones.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from media import canonical
from media.errors import MediaError
from tests.support.medium import SimulatedMedium

CLASSES: Final[Mapping[str, str]] = {
    "release/metadata/*.root.json": "root",
    "release/metadata/timestamp.json": "timestamp",
    "release/metadata/*.snapshot.json": "snapshot",
    "release/metadata/*.targets.json": "targets",
    "release/metadata/volumes.json": "volume index",
    "release/attest/custody-sealed-*": "sealed custody",
    "release/metadata/custody-sealed-*": "sealed custody",
    "release/attest/*": "statement",
    "release/check/signers/*": "certificate",
    "release/check/*": "check file",
    "release/bagit.txt": "bagit.txt",
    "release/bag-info.txt": "bag-info.txt",
    "release/manifest-sha256.txt": "payload manifest",
    "release/tagmanifest-sha256.txt": "tag manifest",
    "release/*.sig": "signature",
    "release/data/models/*": "weights and models",
    "release/data/*": "payload",
    "custody/*": "hand-over",
}
"""File classes by pattern; the first that fits counts."""

# What python-tuf alone has to find once two people sealed the change.
DECIDED_BY_TUF: Final = frozenset(
    {"root", "timestamp", "snapshot", "targets", "volume index", "statement", "sealed custody", "payload"}
    | {"weights and models"}
)
_VALUES: Final[Sequence[Any]] = (
    *(None, True, False, 0, -1, 1, 2**53 - 1, 1.5, "", "x", "data/x", "../x", "ab" * 32, "AB" * 20, [], {}, [[]]),
    *("9999-12-31T23:59:59Z", "2026-11-20T08:00:00Z", "\u202e", "e\u0301"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was done: to a file of which class, how, and where that file lies."""

    number: int
    kind: str
    how: str
    path: str


def class_of(path: str) -> str:
    """Return the class of a file by its path below a volume."""
    return next(kind for pattern, kind in CLASSES.items() if fnmatch(path, pattern))


def files_by_class(medium: SimulatedMedium) -> dict[str, list[Path]]:
    """Return the files of all volumes by class, sorted."""
    found = defaultdict(list)
    for volume in medium.volumes:
        for path in sorted(volume.rglob("*")):
            if path.is_file():
                found[class_of(path.relative_to(volume).as_posix())].append(path)
    return dict(sorted(found.items()))


@contextmanager
def spoilt(
    medium: SimulatedMedium, number: int, *, other: SimulatedMedium, only: frozenset[str] | None = None
) -> Iterator[Fault]:
    """Spoil one file; make it good again afterwards.

    Args:
        medium: It is changed in place.
        number: Chooses class, file and fault; equal numbers choose equally.
        other: A genuine medium whose files may take the place of this one's.
        only: Classes to choose from.
    """
    dice = random.Random(number)
    classes = {kind: files for kind, files in files_by_class(medium).items() if only is None or kind in only}
    kind = sorted(classes)[number % len(classes)]
    before: dict[Path, bytes | None] = {}
    how, path = "", Path()
    while not how:
        path = dice.choice(classes[kind])
        how = _spoil(path, medium, other, dice, before)
    try:
        yield Fault(number=number, kind=kind, how=how, path=path.relative_to(medium.folder).as_posix())
    finally:
        for place, content in before.items():
            if content is None:
                place.unlink()
            else:
                place.write_bytes(content)


def _spoil(
    path: Path, medium: SimulatedMedium, other: SimulatedMedium, dice: random.Random, before: dict[Path, bytes | None]
) -> str:
    """Do one thing to a file, keep what was there, and return its name; nothing when all came out as it was."""
    content = path.read_bytes()
    kinds = [
        "flip",
        "flip",
        "insert",
        "delete",
        "truncate",
        "double",
        "empty",
        "swap",
        "foreign",
        "second name",
        "gone",
    ]
    as_json = _json_of(content)
    if as_json is not None:
        kinds += ["json"] * 5
    how = dice.choice(kinds)
    if how == "swap":
        return _swap(path, medium, dice, before)
    if how == "foreign":
        found = _foreign(path, medium, other)
    elif how == "second name":
        return _second_name(path, before)
    elif how == "gone":
        before[path] = content
        path.unlink()
        return how
    elif how == "json":
        found = _bent(as_json, dice)
    else:
        found = _bytes(content, how, dice)
    if found is None or found == content:
        return ""
    before[path] = content
    path.write_bytes(found)
    return how


def _bytes(content: bytes, how: str, dice: random.Random) -> bytes:
    at, length = dice.randrange(max(len(content), 1)), dice.choice([1, 1, 2, 16, 64])
    if how == "flip" and content:
        return content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :]
    if how == "insert":
        return content[:at] + dice.choice([dice.randbytes(length), b"\0" * length, b"\n", b" "]) + content[at:]
    if how == "delete":
        return content[:at] + content[at + length :]
    if how == "truncate":
        return content[:at]
    if how == "double":
        return dice.choice([content + content, content[:at] + content[at : at + length] + content[at:]])
    return b""


def _swap(path: Path, medium: SimulatedMedium, dice: random.Random, before: dict[Path, bytes | None]) -> str:
    """Let it change places with another file of any volume."""
    files = [each for found in files_by_class(medium).values() for each in found if each != path]
    place = dice.choice(files)
    mine, its = path.read_bytes(), place.read_bytes()
    if mine == its:
        return ""
    before[path], before[place] = mine, its
    path.write_bytes(its)
    place.write_bytes(mine)
    return "swap"


def _foreign(path: Path, medium: SimulatedMedium, other: SimulatedMedium) -> bytes | None:
    """Return what another genuine release has in the same place."""
    place = path.relative_to(medium.folder)
    name = place.as_posix().replace(f"/{medium.serial}.", f"/{other.serial}.")
    found = other.folder / name
    if not found.is_file():
        same = [each for each in files_by_class(other).get(class_of("/".join(place.parts[1:])), []) if each.is_file()]
        found = same[0] if same else found
    return found.read_bytes() if found.is_file() else None


def _second_name(path: Path, before: dict[Path, bytes | None]) -> str:
    place = path.with_name(f"{path.name.partition('.')[0]}-again{path.suffix}")
    if place.exists():
        return ""
    before[place] = None
    place.write_bytes(path.read_bytes())
    return "second name"


def _json_of(content: bytes) -> Any:
    try:
        found = canonical.loads(content, allow_floats=True)
    except MediaError:
        return None
    return found if isinstance(found, dict) else None


def _bent(value: Any, dice: random.Random) -> bytes:
    """Return the value with one place of it changed, in canonical form; a part that is base64 JSON is bent inside."""
    place: Any = value
    while True:
        key = dice.choice(sorted(place)) if isinstance(place, dict) else dice.randrange(len(place))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and dice.random() < 0.85:
            place = inner
            continue
        break
    what = dice.randrange(5)
    if what == 0:
        del place[key]
    elif what == 1 and isinstance(place, list):
        place.insert(0, inner)
    elif what == 1:
        place[f"{key}x"] = inner
    elif what == 2 and isinstance(inner, int) and not isinstance(inner, bool):
        place[key] = inner + dice.choice([-1, 1])
    elif what == 3 and isinstance(inner, str) and inner:
        at = dice.randrange(len(inner))
        place[key] = inner[:at] + dice.choice("0aA/=.Z") + inner[at + 1 :]
    else:
        place[key] = dice.choice(_VALUES)
    return canonical.dumps(json.loads(json.dumps(value)), allow_floats=True)
