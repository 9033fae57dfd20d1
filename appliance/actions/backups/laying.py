"""Lays down what gpg gives out and counts it on the way: what a disk gives back is compared with that."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import IO, Final

CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bytes:
    """What bytes are known by."""

    length: int
    sha256: str


class Laying:
    """Writes a pipe's bytes to a file, in a thread of its own, until they end or one cannot be written.

    Args:
        source: The reading end of a pipe. Closed at once where the file takes no more, so that whoever fills it ends.
        out: The file, without a buffer.
    """

    def __init__(self, source: IO[bytes], out: IO[bytes]) -> None:
        self._source = source
        self._out = out
        self._seen, self._length = hashlib.sha256(), 0
        self._failure: OSError | None = None
        self._thread = Thread(target=self._lay, name="backup-laying", daemon=True)
        self._thread.start()

    def result(self) -> Bytes:
        """Return what was given out, once the pipe has ended.

        Raises:
            OSError: Not all of it could be written.
        """
        self.wait()
        if self._failure is not None:
            raise self._failure
        return Bytes(self._length, self._seen.hexdigest())

    def wait(self) -> None:
        """Wait until the pipe has ended; the file is not written to after that."""
        self._thread.join()

    def _lay(self) -> None:
        try:
            while chunk := os.read(self._source.fileno(), CHUNK):
                self._seen.update(chunk)
                self._length += len(chunk)
                left = memoryview(chunk)
                while left:
                    left = left[self._out.write(left) :]
        except OSError as error:
            self._failure = error
        finally:
            with suppress(OSError):
                self._source.close()
