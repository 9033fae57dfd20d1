"""The register of what was sent where: append-only lines of canonical JSON, each naming the digest of the one before.

It is the sender's own memory, kept beside the root. A line is on disk before the command that wrote it says so; a last
line that a power cut tore was never confirmed and is written over. A line that was changed, taken out or put in later
breaks the chain and is refused (REG-1 to REG-3).
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bundler.ledgernote import LedgerKey
from media import clock as clocks
from media import durable
from media.canonical import array, boolean, dumps, exact_keys, integer, loads_canonical, mapping, moment, text
from media.canonical import sha256_hex as require_digest
from media.clock import Clock
from media.digest import sha256_hex
from media.errors import MalformedError, UnreadableError, UnsupportedFormatError

FORMAT: Final = 2
FILE: Final = "register.jsonl"
_MAX_LINE: Final = 64 * 2**10
_NOTE: Final = 8 * 2**10
_HEAD: Final = ("format", "entry", "previous", "at", "kind")
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "written": (
        *("medium", "release", "serial", "code", "volume", "id", "count", "tag_manifest_sha256", "sites", "seals"),
        *("read_back", "again"),
    ),
    "erased": ("carrier", "held", "by"),
    "sent": ("medium", "to", "by"),
    "returned": ("medium", "by", "condition", "destroyed"),
    "site": ("site", "ledger_key"),
    "succession": ("site", "ledger_key", "note"),
    "receipt": (
        *("sha256", "site", "outcome", "received_at", "release", "serial", "code", "volumes", "custody_complete"),
        *("findings", "vouched_by", "checkpoint"),
    ),
    "evidence": (
        *("sha256", "site", "outcome", "error", "received_at", "release", "serial", "ids", "vouched_by"),
        "checkpoint",
    ),
    "inventory": ("sha256", "site", "serial", "taken_at", "vouched_by", "checkpoint"),
}
# Programs that cannot follow a ledger's key say that the line is of a later format.
_FORMATS: Final[Mapping[str, int]] = {"succession": 2}
_OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {"written": ("by", "carrier"), "sent": ("due",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the register."""

    number: int
    at: str
    kind: str
    facts: Mapping[str, Any]


Facts = Mapping[str, Any] | Callable[[tuple[Entry, ...]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """A register in its folder."""

    folder: Path

    @property
    def file(self) -> Path:
        """The file of lines."""
        return self.folder / FILE

    def entries(self) -> tuple[Entry, ...]:
        """Return every line, once the chain holds.

        Raises:
            MalformedError: A line is not one of ours, or the chain is broken.
            UnreadableError: The file cannot be read.
        """
        try:
            untrusted = self.file.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _unwritable(error) from error
        return tuple(entry for entry, _ in _read(untrusted))

    def append(self, kind: str, facts: Facts, *, clock: Clock) -> Entry:
        """Write one line and return it when it is on disk.

        Args:
            kind: Which fields it has.
            facts: The fields, or what makes them from the lines so far while nobody else can add one.
            clock: What time it is.

        Raises:
            MalformedError: The facts are not those of the kind, or the register so far is broken.
            UnreadableError: The file cannot be written.
        """
        with self._locked() as descriptor:
            untrusted = b"".join(iter(lambda: os.read(descriptor, 2**20), b""))
            before = list(_read(untrusted))
            fields = facts(tuple(entry for entry, _ in before)) if callable(facts) else facts
            line = dumps(
                {
                    "format": _FORMATS.get(kind, 1),
                    "entry": len(before) + 1,
                    "previous": before[-1][1] if before else "",
                    "at": clocks.to_text(clock.now()),
                    "kind": kind,
                    **fields,
                }
            )
            entry = _entry(line)
            end = untrusted.rfind(b"\n") + 1
            os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            left = memoryview(line + b"\n")
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        return entry

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield descriptor
            finally:
                os.close(descriptor)
            durable.sync_folder(self.folder)
        except OSError as error:
            raise _unwritable(error) from error


def require_facts(kind: str, facts: Mapping[str, Any]) -> None:
    """Pass only facts that a line of this kind can have; nothing is read or written.

    Raises:
        MalformedError: They are not.
    """
    head = {"format": 1, "entry": 1, "previous": "", "at": "2000-01-01T00:00:00Z", "kind": kind}
    _entry(dumps({**head, **facts}))


def _read(untrusted: bytes) -> Iterator[tuple[Entry, str]]:
    previous = ""
    for number, line in enumerate(untrusted.split(b"\n")[:-1], start=1):
        entry = _entry(line)
        if entry.number != number or loads_canonical(line, max_bytes=_MAX_LINE)["previous"] != previous:
            raise _malformed(number, "it does not follow the line before: one was changed, taken out or put in")
        previous = sha256_hex(line)
        yield entry, previous


def _entry(untrusted: bytes) -> Entry:
    what = "A line of the register"
    value = mapping(loads_canonical(untrusted, max_bytes=_MAX_LINE), what)
    if integer(value.get("format"), what, minimum=1) > FORMAT:
        raise UnsupportedFormatError(
            what="the register has lines of a later format",
            why=f"this program reads format {FORMAT}",
            fix="use a newer one",
        )
    number = integer(value.get("entry"), what, minimum=1)
    kind = text(value.get("kind"), what)
    if kind not in _FIELDS:
        raise _malformed(number, "its kind is unknown")
    optional = _OPTIONAL.get(kind, ())
    exact_keys(value, (*_HEAD, *_FIELDS[kind]), optional, what)
    moment(value["at"], what)
    facts = {name: value[name] for name in (*_FIELDS[kind], *optional) if name in value}
    for name, field in facts.items():
        _require_field(name, field, what)
    return Entry(number=number, at=value["at"], kind=kind, facts=facts)


def _require_field(name: str, value: Any, what: str) -> None:
    if name in {"serial", "volume", "count", "findings"}:
        integer(value, what)
    elif name in {"again", "destroyed", "custody_complete"}:
        boolean(value, what)
    elif name in {"code", "tag_manifest_sha256", "sha256"}:
        require_digest(value, what)
    elif name in {"sites", "seals", "vouched_by", "ids"}:
        for each in array(value, what, most=999):
            text(each, what, most=200)
    elif name == "volumes":
        for each in array(value, what, most=999):
            integer(each, what, minimum=1)
    elif name == "checkpoint":
        if value is not None:
            exact_keys(value, ("origin", "size", "root"), (), what)
    elif name in {"due", "taken_at"}:
        moment(value, what)
    elif name == "ledger_key":
        LedgerKey.from_text(text(value, what, most=400))
    else:
        is_note, is_optional = name == "note", name in {"condition", "by", "error", "release"}
        text(value, what, most=_NOTE if is_note else 500, may_be_empty=is_optional, lines=is_note)


def _malformed(number: int, why: str) -> MalformedError:
    return MalformedError(
        what=f"line {number} of the register is not what was written",
        why=why,
        fix="restore the register from its backup; do not edit it",
    )


def _unwritable(error: OSError) -> UnreadableError:
    return UnreadableError(
        what="the register cannot be used",
        why=error.strerror or "input/output error",
        fix="check the folder's rights, or name another one with --register",
    )
