"""Media that are plugged in: a small file for each, made by the unit that serves it and read by whoever wants to know.

    /run/sealift/arrived/NAME.json     by sealift-media@NAME (a user of its own): what blkid and the kernel say
    /run/sealift/inspected/NAME.json   by sealift-inspect@NAME (sealift-receive): what it claims; nobody believes it

NAME is the kernel's name of the device, e.g. ``sdb1``. Promises: a name is checked before it becomes a path or a unit;
a file that is damaged, of a device that is gone, or about the medium that was there before is not shown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from appliance.config import Places
from appliance.errors import JobRefusedError
from media import canonical, durable
from media.errors import MalformedError, SealiftError

MOUNTED: Final = "mounted"
REFUSED: Final = "refused"
EXPORT_LABEL: Final = "SEALIFT-OUT"
"""Label of the file system of a medium that may be asked to take EXPORTs; FAT has room for these eleven characters."""
BLOCK: Final = "sys/class/block"
"""Where the kernel names block devices, below the root."""
_NAME: Final = re.compile(r"[a-z][a-z0-9]{1,14}")
_ID: Final = re.compile(r"[0-9a-f]{16}")
_MAX_BYTES: Final = 2**20
_MOST_CHARACTERS: Final = 300
_FIELDS: Final = ("name", "id", "state", "why", "filesystem", "label", "bytes", "at")
_MOST: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One medium, from plugging in to pulling out.

    Args:
        name: The kernel's name of the device.
        id: Of this stay, made anew each time; 16 hex digits.
        state: `mounted` (read-only) or `refused`.
        why: Of a refusal.
        filesystem: As blkid names it; empty where it finds none.
        label: Of the file system, as it says itself; printable.
        bytes: Of the device.
        at: When it came, UTC.
    """

    name: str
    id: str
    state: str
    why: str
    filesystem: str
    label: str
    bytes: int
    at: str

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse a file's content.

        Raises:
            MalformedError: A field is missing, unknown or of another shape.
        """
        fields = canonical.exact_keys(untrusted, _FIELDS, what="arrival")
        texts = {
            name: canonical.text(fields[name], f"arrival.{name}", most=_MOST_CHARACTERS, may_be_empty=True)
            for name in ("why", "filesystem", "label", "at")
        }
        state, stay = str(fields["state"]), str(fields["id"])
        if state not in {MOUNTED, REFUSED} or not _ID.fullmatch(stay):
            raise MalformedError(what="an arrival is malformed", why="state or id", fix="plug the medium in again")
        return cls(
            name=require_name(fields["name"]),
            id=stay,
            state=state,
            bytes=canonical.integer(fields["bytes"], "arrival.bytes"),
            **texts,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {name: getattr(self, name) for name in _FIELDS}

    @property
    def is_mounted(self) -> bool:
        """Whether it can be read."""
        return self.state == MOUNTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A medium as people see it: what arrived, and what it claims as far as it was read.

    Args:
        arrival: What arrived.
        claims: Of a Sealift volume, as `inspect` gives them; None while or where there is none.
        problem: Why it is no volume; empty for a volume, and while it is being read.
        is_read: Whether reading has ended.
        may_take_exports: Whether it may be asked to.
    """

    arrival: Arrival
    claims: Mapping[str, Any] | None = None
    problem: str = ""
    is_read: bool = False
    may_take_exports: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            **self.arrival.to_json(),
            "claims": None if self.claims is None else dict(self.claims),
            "problem": self.problem,
            "is_read": self.is_read,
            "may_take_exports": self.may_take_exports,
        }


def require_name(untrusted: Any) -> str:
    """Return the name if a block device of the kernel's could bear it: a few lower-case letters and digits.

    Raises:
        MalformedError: It could not.
    """
    text = canonical.text(untrusted, "medium")
    if not _NAME.fullmatch(text):
        raise MalformedError(what="that is no medium's name", why="e.g. sdb1 or sr0", fix="see `sealift media list`")
    return text


def keep(places: Places, arrival: Arrival) -> None:
    """Write what arrived, whole or not at all; whoever may enter the machine may read it."""
    places.arrived.mkdir(parents=True, exist_ok=True, mode=0o755)
    durable.replace(places.arrived / f"{arrival.name}.json", canonical.dumps(arrival.to_json()), mode=0o644)


def keep_inspected(places: Places, arrival: Arrival, *, claims: Mapping[str, Any] | None, problem: str) -> None:
    """Write what a medium claims, or why it is no volume."""
    places.inspected.mkdir(parents=True, exist_ok=True, mode=0o755)
    content = canonical.dumps(
        {"id": arrival.id, "claims": None if claims is None else dict(claims), "problem": problem}
    )
    if len(content) > _MAX_BYTES:
        content = canonical.dumps({"id": arrival.id, "claims": {}, "problem": "it claims too much to be shown"})
    durable.replace(places.inspected / f"{arrival.name}.json", content, mode=0o644)


def arrived(places: Places, untrusted_name: str) -> Arrival:
    """Return what arrived under a name.

    Raises:
        MalformedError: That is no name of a medium.
        JobRefusedError: Nothing is plugged in there.
    """
    name = require_name(untrusted_name)
    try:
        found = Arrival.from_json(_read(places.arrived / f"{name}.json"))
    except (OSError, SealiftError):
        found = None
    if found is None or found.name != name or not (places.root / BLOCK / name).exists():
        raise JobRefusedError(
            what=f"no medium {name} is plugged in", why="nothing arrived there", fix="see `sealift media list`"
        )
    return found


def shown(places: Places, untrusted_name: str) -> Shown:
    """Return a medium with what it claims.

    Raises:
        MalformedError, JobRefusedError: As `arrived`.
    """
    arrival = arrived(places, untrusted_name)
    try:
        read = canonical.exact_keys(
            _read(places.inspected / f"{arrival.name}.json"), ("id", "claims", "problem"), what="inspected"
        )
        problem = canonical.text(read["problem"], "inspected.problem", most=2 * _MOST_CHARACTERS, may_be_empty=True)
        claims = None if read["claims"] is None else canonical.mapping(read["claims"], "inspected.claims")
    except (OSError, SealiftError):
        return Shown(arrival=arrival)
    if read["id"] != arrival.id:
        return Shown(arrival=arrival)
    # A medium that came from a sender is never written to, whatever its label says.
    may = arrival.is_mounted and arrival.label == EXPORT_LABEL and claims is None
    return Shown(arrival=arrival, claims=claims, problem=problem, is_read=True, may_take_exports=may)


def all_shown(places: Places) -> tuple[Shown, ...]:
    """Return every medium that is plugged in, by name."""
    found = []
    try:
        names = sorted(path.stem for path in places.arrived.iterdir() if path.suffix == ".json")
    except OSError:
        return ()
    for name in names[:_MOST]:
        try:
            found.append(shown(places, name))
        except SealiftError:
            continue
    return tuple(found)


def _read(path: Path) -> Any:
    with path.open("rb") as stream:
        return canonical.loads(stream.read(_MAX_BYTES + 1), max_bytes=_MAX_BYTES)
