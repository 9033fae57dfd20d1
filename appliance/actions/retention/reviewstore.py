"""Prompts and answers that a site's policy lets people look at again: encrypted, for a time, and gone when it is over.

Three keys open a sample, each wrapped by the one before: of the year, of the subject, of the sample itself. Destroying
one erases all below it: a year, a person, a sample. The key of a year is wrapped by the box's key `retention`, on a
token where the box has one. Ciphertext lies in `review.db`, wrapped keys in `review.keys`; neither leaves a copy of
what went on a file system that writes in place. AES-256-GCM throughout; every ciphertext is bound to the name of what
it belongs to.
"""

import hashlib
import hmac
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from appliance.actions.retention.keyslots import KeySlots
from appliance.errors import KeyMissingError, NoSpaceError, StoreWriteError
from appliance.keys import sealing
from appliance.keys.provider import KeyProvider
from media.clock import Clock, to_text

KEY: Final = "retention"
LEFT_FREE: Final = 0.1
"""The part of the disk that samples leave free: the ledger's alarm rings at this, and without a record is no answer."""
_FOREVER: Final = "9999"
_PIECE_BYTES: Final = 2**16
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sample(
  request_id TEXT PRIMARY KEY,
  year INTEGER NOT NULL,
  subject BLOB NOT NULL CHECK(length(subject) = 32),
  made TEXT NOT NULL,
  expires TEXT NOT NULL,
  sealed BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS sample_expires ON sample(expires);
"""
# The journal stays a file, so that what it took of pages can be written over; of a deleted one the blocks would stay.
_PRAGMAS: Final = ("journal_mode=PERSIST", "synchronous=EXTRA", "secure_delete=ON", "trusted_schema=OFF", "mmap_size=0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What is known of a sample without opening it; `subject` names a person's key of one year, not the person."""

    request_id: str
    year: int
    subject: bytes
    made: str
    expires: str


class ReviewStore:
    """The samples of one box; one process at a time writes.

    Args:
        folder: Where its two files lie; 0700.
        keys: Holds the box's key `retention`.
        clock: What time it is.
    """

    def __init__(self, folder: Path, *, keys: KeyProvider, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._path = folder / "review.db"
        self._slots = KeySlots(folder / "review.keys")

    def add(self, request_id: str, *, subject: str, content: bytes, days: int) -> Sample:
        """Keep one request's prompt and answer for so many days.

        Raises:
            KeyMissingError: The box has no key for it, or the year's was destroyed.
            StoreWriteError: It is not kept.
        """
        now = self._clock.now()
        year_key = self._year_key(now.year, make=True)
        owner = _owner(year_key, subject)
        subject_key = self._subject_key(owner, year_key, now.year, make=True)
        own, name = secrets.token_bytes(32), _slot("sample", request_id)
        self._slots.put(name, sealing.seal(subject_key, key_id="sample", version=now.year, data=own, aad=name))
        sealed = sealing.seal(own, key_id="content", version=now.year, data=content, aad=request_id.encode())
        sample = Sample(
            request_id=request_id,
            year=now.year,
            subject=owner,
            made=to_text(now),
            expires=to_text(now + timedelta(days=days)),
        )
        values = (request_id, sample.year, owner, sample.made, sample.expires, sealed)
        try:
            with self._opened() as database:
                database.execute("INSERT INTO sample VALUES(?, ?, ?, ?, ?, ?)", values)
                if owner not in self._slots.names():  # the nightly run removed the subject's last sample meanwhile
                    database.execute("DELETE FROM sample WHERE request_id = ?", (request_id,))
                    raise StoreWriteError(
                        what="a sample is not kept", why="its subject's key was just destroyed", fix="the next one is"
                    )
        except StoreWriteError:
            self._slots.destroy(name)
            raise
        return sample

    def require_room(self, *, most: int) -> None:
        """Return when one more sample may be kept.

        Raises:
            NoSpaceError: There are `most` already, or the disk is nearly full.
            StoreWriteError: The store cannot be read.
        """
        with self._opened() as database:
            (count,) = database.execute("SELECT count(*) FROM sample").fetchone()
        usage = shutil.disk_usage(self._path.parent)
        if count >= most or usage.free < usage.total * LEFT_FREE:
            raise NoSpaceError(
                what="no further sample is kept",
                why=f"there are {count} of {most}" if count >= most else "less than a tenth of the disk is free",
                fix="wait until some expire, or raise review.most in the site file",
            )

    def tidy(self) -> int:
        """Destroy keys that open no sample, as a power cut leaves them; return how many. Nobody may be adding."""
        kept = self.samples()
        needed = {sample.subject for sample in kept} | {_slot("sample", sample.request_id) for sample in kept}
        needed |= {_slot("year", str(year)) for year in self._year_numbers()}
        return sum(self._slots.destroy(name) for name in self._slots.names() - needed)

    def content(self, sample: Sample) -> bytes:
        """Return what was kept; whoever calls records who looked and why.

        Raises:
            KeyMissingError: It was erased or has expired.
            CiphertextError: The file was altered.
        """
        with self._opened() as database:
            found = database.execute("SELECT sealed FROM sample WHERE request_id = ?", (sample.request_id,)).fetchone()
        if found is None:
            raise KeyMissingError(what="there is no such sample", why="it expired or was erased", fix="nothing")
        subject_key = self._subject_key(sample.subject, self._year_key(sample.year), sample.year)
        own = _unsealed(subject_key, self._slots.get(name := _slot("sample", sample.request_id)), name)
        return _unsealed(own, bytes(found[0]), sample.request_id.encode())

    def samples(self, *, expired_at: str = _FOREVER) -> tuple[Sample, ...]:
        """Return all samples whose time is over at a moment, the oldest first; by default every one."""
        with self._opened() as database:
            rows = database.execute(
                "SELECT request_id, year, subject, made, expires FROM sample WHERE expires <= ? ORDER BY made, 1",
                (expired_at,),
            ).fetchall()
        return tuple(
            Sample(request_id=row[0], year=row[1], subject=bytes(row[2]), made=row[3], expires=row[4]) for row in rows
        )

    def of_subject(self, subject: str) -> tuple[Sample, ...]:
        """Return the samples of a person, in every year whose key is still here."""
        owners = {_owner(key, subject) for key in self._year_keys().values()}
        return tuple(sample for sample in self.samples() if sample.subject in owners)

    def remove(self, sample: Sample) -> None:
        """Destroy a sample's key, then its row, then its subject's key with the last; a cut is gone on with again."""
        self._slots.destroy(_slot("sample", sample.request_id))
        with self._opened() as database:
            # In one transaction, so that who adds meanwhile comes before the look or after the key is gone.
            database.execute("BEGIN IMMEDIATE")
            database.execute("DELETE FROM sample WHERE request_id = ?", (sample.request_id,))
            if not database.execute("SELECT 1 FROM sample WHERE subject = ? LIMIT 1", (sample.subject,)).fetchone():
                self._slots.destroy(sample.subject)
            database.execute("COMMIT")
            self._blank_journal(database)

    def erase(self, subject: str) -> int:
        """Destroy a person's keys of every year and remove their samples; return how many samples went."""
        gone = self.of_subject(subject)
        for year_key in self._year_keys().values():
            self._slots.destroy(_owner(year_key, subject))
        for sample in gone:
            self.remove(sample)
        return len(gone)

    def end_year(self, year: int) -> int:
        """Destroy a year's key and all that it opened; return how many samples went."""
        gone = tuple(sample for sample in self.samples() if sample.year == year)
        self._slots.destroy(_slot("year", str(year)))
        for sample in gone:
            self._slots.destroy(sample.subject)
            self.remove(sample)
        return len(gone)

    def years(self) -> tuple[int, ...]:
        """Return the years whose keys are here, the oldest first."""
        return self._year_numbers()

    def _year_keys(self) -> dict[int, bytes]:
        return {year: self._year_key(year) for year in self._year_numbers()}

    def _year_numbers(self) -> tuple[int, ...]:
        # Also those of samples that were kept while the clock ran years ahead: a person's keys of then go, too.
        years = {*range(2020, self._clock.now().year + 2), *(sample.year for sample in self.samples())}
        names = self._slots.names()
        return tuple(year for year in sorted(years) if _slot("year", str(year)) in names)

    def _year_key(self, year: int, *, make: bool = False) -> bytes:
        name = _slot("year", str(year))
        if make and name not in self._slots.names():
            self._slots.put(name, self._keys.wrap(KEY, secrets.token_bytes(32), name))
        return self._keys.unwrap(KEY, self._slots.get(name), name)

    def _subject_key(self, owner: bytes, year_key: bytes, year: int, *, make: bool = False) -> bytes:
        if make and owner not in self._slots.names():
            fresh = sealing.seal(year_key, key_id="subject", version=year, data=secrets.token_bytes(32), aad=owner)
            self._slots.put(owner, fresh)
        return _unsealed(year_key, self._slots.get(owner), owner)

    def _blank_journal(self, database: sqlite3.Connection) -> None:
        """Write over what the journal took of pages, while nobody else can use it; a cut leaves it to the next."""
        database.execute("BEGIN EXCLUSIVE")
        try:
            with self._path.with_name(f"{self._path.name}-journal").open("r+b", buffering=0) as journal:
                left = os.fstat(journal.fileno()).st_size
                while left > 0:
                    left -= journal.write(bytes(min(left, _PIECE_BYTES)))
                os.fsync(journal.fileno())
        except FileNotFoundError:
            pass  # there was nothing to take
        except OSError as error:
            raise _refused(error) from error
        finally:
            database.execute("ROLLBACK")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = sqlite3.connect(self._path, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise _refused(error) from error
        try:
            for pragma in _PRAGMAS:
                database.execute(f"PRAGMA {pragma}").fetchall()
            database.executescript(_SCHEMA)
            yield database
        except sqlite3.Error as error:
            raise _refused(error) from error
        finally:
            database.close()


def year_ends(year: int) -> datetime:
    """Return the first moment after a year."""
    return datetime(year + 1, 1, 1, tzinfo=UTC)


def _slot(kind: str, name: str) -> bytes:
    return hashlib.sha256(f"sealift/1/{kind}/{name}".encode()).digest()


def _owner(year_key: bytes, subject: str) -> bytes:
    """Return what names a person's key of a year; without the year's key nobody finds the person by it.

    Blanks around a name are nobody's name: an application that pads names has its people erased with or without them.
    """
    return hmac.digest(year_key, b"sealift/1/subject/" + subject.strip().encode(), hashlib.sha256)


def _unsealed(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    return sealing.unseal(key, header=sealing.read_header(sealed), untrusted=sealed, aad=aad)


def _refused(error: Exception) -> StoreWriteError:
    return StoreWriteError(
        what="the review store cannot be used", why=type(error).__name__, fix="see docs/operator/retention.md"
    )
