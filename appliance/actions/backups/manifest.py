"""The manifest of a backup, format 1: what is inside, with digests, and which media bring the rest (BAK-1 to BAK-8).

It is not signed itself. The list of files is named by a record (``backup.begun``), that record lies in the tree whose
signed checkpoint the backup carries, and all records are there: so one signature covers everything.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Self

from media import canonical, limits
from media.clock import to_text
from media.digest import sha256_hex
from media.errors import MalformedError

FORMAT: Final = 1
TYPE: Final = "sealift/backup"
NAME: Final = "manifest.json"
CHECKPOINT: Final = "ledger/checkpoint.txt"
FILE_BYTES: Final = 64 * 2**20
PART_BYTES: Final = 16 * 2**20
MOST_FILES: Final = 100_000
MOST_BYTES: Final = 32 * 2**20
_WHAT: Final = "the backup's manifest"
_FILE = re.compile(
    r"(?:site|trust|pinned|receipts|evidence|promoter|keys|spool)(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){1,4}", re.ASCII
)
_PART = re.compile(r"ledger/leaves-[0-9]{9}\.jsonl", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUpFile:
    """One small file: where it belongs, its length in bytes and its digest."""

    path: str
    length: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPart:
    """A run of records, one on each line, `count` of them from sequence `first` on."""

    path: str
    length: int
    sha256: str
    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededMedium:
    """A release that the store held: its files come back from its medium, not from the backup."""

    serial: int
    release: str
    code: str
    payload_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup holds.

    Args:
        site: Whose.
        environment: Of the site.
        made_at: When.
        serial: The last accepted one.
        origin: Of the ledger, in its present epoch.
        size: Records in the tree of the checkpoint.
        root: Of that tree, hex.
        files: Small files, by path.
        parts: The records.
        media: What the store held.
    """

    site: str
    environment: str
    made_at: datetime
    serial: int
    origin: str
    size: int
    root: str
    files: tuple[BackedUpFile, ...]
    parts: tuple[LedgerPart, ...]
    media: tuple[NeededMedium, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.dumps(
            {
                "format": FORMAT,
                "type": TYPE,
                "site": self.site,
                "environment": self.environment,
                "made_at": to_text(self.made_at),
                "serial": self.serial,
                "ledger": {
                    "origin": self.origin,
                    "size": self.size,
                    "root": self.root,
                    "parts": [asdict(part) for part in self.parts],
                },
                "files": [asdict(file) for file in self.files],
                "media": [asdict(medium) for medium in self.media],
            }
        )

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a manifest.

        Raises:
            LimitExceededError: It is too large.
            MalformedError: It is not in its one form.
        """
        value = canonical.loads_canonical(untrusted, max_bytes=MOST_BYTES)
        required = ("format", "type", "site", "environment", "made_at", "serial", "ledger", "files", "media")
        fields = canonical.exact_keys(value, required, (), _WHAT)
        canonical.integer(fields["format"], _WHAT, minimum=FORMAT, maximum=FORMAT)
        canonical.one_of(fields["type"], (TYPE,), _WHAT)
        ledger = canonical.exact_keys(fields["ledger"], ("origin", "size", "root", "parts"), (), _WHAT)
        found = cls(
            site=canonical.text(fields["site"], _WHAT),
            environment=canonical.text(fields["environment"], _WHAT),
            made_at=canonical.moment(fields["made_at"], _WHAT),
            serial=canonical.integer(fields["serial"], _WHAT),
            origin=canonical.text(ledger["origin"], _WHAT),
            size=canonical.integer(ledger["size"], _WHAT, minimum=1),
            root=canonical.sha256_hex(ledger["root"], _WHAT),
            files=tuple(_file(each) for each in canonical.array(fields["files"], _WHAT, most=MOST_FILES)),
            parts=tuple(_part(each) for each in canonical.array(ledger["parts"], _WHAT, most=limits.FILES)),
            media=tuple(_medium(each) for each in canonical.array(fields["media"], _WHAT, most=MOST_FILES)),
        )
        found._require_whole()
        return found

    def _require_whole(self) -> None:
        """Refuse names given twice, files out of order, and records that leave a gap."""
        paths = [file.path for file in self.files]
        if paths != sorted(set(paths)):
            raise _malformed("its files are not in order, or one is named twice")
        after = 0
        for part in self.parts:
            if part.first != after or part.path != part_name(part.first):
                raise _malformed("its records leave a gap")
            after += part.count
        if after != self.size:
            raise _malformed("its records are not as many as its tree has")


def files_sha256(files: Iterable[BackedUpFile]) -> str:
    """Return the digest by which a record names the list of files."""
    return sha256_hex(canonical.dumps([asdict(file) for file in files]))


def part_name(first: int) -> str:
    """Return the name of the part that begins with a sequence."""
    return f"ledger/leaves-{first:09d}.jsonl"


def is_file(path: str) -> bool:
    """Tell whether a backup may hold a small file of this name."""
    return _FILE.fullmatch(path) is not None and ".." not in path


def is_part(path: str) -> bool:
    """Tell whether this is the name of a part of the records."""
    return _PART.fullmatch(path) is not None


def _file(untrusted: Any) -> BackedUpFile:
    fields = canonical.exact_keys(untrusted, ("path", "length", "sha256"), (), _WHAT)
    path = canonical.text(fields["path"], _WHAT)
    if not is_file(path):
        raise _malformed("a file has a name that no backup holds")
    return BackedUpFile(
        path=path,
        length=canonical.integer(fields["length"], _WHAT, maximum=FILE_BYTES),
        sha256=canonical.sha256_hex(fields["sha256"], _WHAT),
    )


def _part(untrusted: Any) -> LedgerPart:
    fields = canonical.exact_keys(untrusted, ("path", "length", "sha256", "first", "count"), (), _WHAT)
    return LedgerPart(
        path=canonical.text(fields["path"], _WHAT),
        length=canonical.integer(fields["length"], _WHAT, maximum=PART_BYTES),
        sha256=canonical.sha256_hex(fields["sha256"], _WHAT),
        first=canonical.integer(fields["first"], _WHAT),
        count=canonical.integer(fields["count"], _WHAT, minimum=1),
    )


def _medium(untrusted: Any) -> NeededMedium:
    fields = canonical.exact_keys(untrusted, ("serial", "release", "code", "payload_digest"), (), _WHAT)
    return NeededMedium(
        serial=canonical.integer(fields["serial"], _WHAT, minimum=1),
        release=canonical.text(fields["release"], _WHAT),
        code=canonical.sha256_hex(fields["code"], _WHAT),
        payload_digest=canonical.sha256_hex(fields["payload_digest"], _WHAT),
    )


def _malformed(why: str) -> MalformedError:
    return MalformedError(what=f"{_WHAT} is malformed", why=why, fix="use another backup; nothing was restored")
