"""The census list at rest: one file of names, encrypted under the key `phi-map`, and what looks for them in each text.

Rules:
    CEN-1 There is a list or there is none: one that cannot be read, opened or understood makes the search fail, and so
          the request. Never is a list passed over.
    CEN-2 Another list holds within a second in every process, without a restart.
    CEN-3 No name leaves these two modules but as part of a finding: no error, log, record or metric holds any.
"""

import os
import stat
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from appliance.errors import StoreDamagedError
from appliance.keys.provider import KeyProvider
from appliance.phi.census import Census
from appliance.phi.detect import Finding, ShadowDetector, merged, shadow_of
from media.clock import Clock

NAME: Final = "names"
KEY: Final = "phi-map"
MAX_NAMES: Final = 200_000
MAX_NAME_CHARACTERS: Final = 120
MAX_BYTES: Final = 16 * 1024 * 1024
"""Of the names themselves; what encryption adds is a few hundred bytes."""
_MAX_FILE_BYTES: Final = MAX_BYTES + 4096
_HEAD: Final = b"sealift-census 1\n"
_BOUND_TO: Final = b"census names 1"
_FRESH_SECONDS: Final = 1.0

_Mark = tuple[int, int, int, int]


def plain_of(names: Iterable[str]) -> bytes:
    """Return the bytes that are encrypted, and that the ledger has a keyed digest of."""
    return _HEAD + "\n".join(names).encode()


def sealed(plain: bytes, keys: KeyProvider) -> bytes:
    """Return the content of the file.

    Raises:
        KeyMissingError: The key cannot be used.
    """
    return keys.wrap(KEY, plain, _BOUND_TO)


def opened(untrusted: bytes, keys: KeyProvider) -> bytes:
    """Return what `plain_of` made.

    Raises:
        CiphertextError: It was altered or made for something else.
        KeyMissingError: The version of the key that made it is gone.
        StoreDamagedError: It holds no list of this format.
    """
    plain = keys.unwrap(KEY, untrusted, _BOUND_TO)
    if not plain.startswith(_HEAD):
        raise _damaged("it is of another format")
    return plain


def names_of(plain: bytes) -> list[str]:
    """Return the names of a list that was opened.

    Raises:
        StoreDamagedError: They are not text.
    """
    try:
        names = plain[len(_HEAD) :].decode().split("\n")
    except UnicodeDecodeError:
        raise _damaged("it is not text") from None
    if len(names) > MAX_NAMES:
        raise _damaged("it has too many names")
    return names


def read(folder: Path) -> tuple[bytes, _Mark] | None:
    """Return the file as it lies there, and what tells it from the next one; None where there is no list.

    Raises:
        StoreDamagedError: There is one that cannot be read, or it is no plain file.
    """
    try:
        descriptor = os.open(folder / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(error.strerror or "") from None
    try:
        with os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE_BYTES:
                raise _damaged("it is no plain file, or too large")
            return stream.read(_MAX_FILE_BYTES), _mark(found)
    except OSError as error:
        raise _damaged(error.strerror or "") from None


class WithCensus:
    """A `Detector` that adds the list's names to what the patterns find. Safe for threads.

    Args:
        patterns: Find all else.
        folder: Where the list lies, if there is one.
        keys: Holds the key `phi-map`.
        clock: How long ago the file was looked at.
    """

    def __init__(self, patterns: ShadowDetector, *, folder: Path, keys: KeyProvider, clock: Clock) -> None:
        self._patterns = patterns
        self._folder = folder
        self._keys = keys
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._mark: _Mark | None = None
        self._census: Census | None = None

    def find(self, text: str) -> Sequence[Finding]:
        """Return what identifies a person in `text`; see `Detector`.

        Raises:
            CiphertextError, KeyMissingError, StoreDamagedError: There is a list, and it cannot be used.
        """
        census, shadowed = self._fresh(), shadow_of(text)
        found = self._patterns.find_in(shadowed)
        named = census.find_in(shadowed) if census is not None else ()
        return merged([*found, *named])

    def require(self) -> None:
        """Return while there is no list, or one that can be used; raises as `find`."""
        self._fresh()

    def _fresh(self) -> Census | None:
        with self._lock:
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at > _FRESH_SECONDS:
                # Until this has gone well, the next text looks again.
                self._looked_at = None
                self._look()
                self._looked_at = now
            return self._census

    def _look(self) -> None:
        try:
            mark: _Mark | None = _mark((self._folder / NAME).lstat())
        except FileNotFoundError:
            mark = None
        except OSError as error:
            raise _damaged(error.strerror or "") from None
        if mark is not None and mark == self._mark:
            return
        found = read(self._folder)
        self._census, self._mark = None, None
        if found is not None:
            untrusted, mark = found
            self._census = Census(names_of(opened(untrusted, self._keys)))
            self._mark = mark


def _mark(found: os.stat_result) -> _Mark:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _damaged(why: str) -> StoreDamagedError:
    return StoreDamagedError(
        what="the census list cannot be used", why=why, fix="import it again: `sealift census import`, as root"
    )
