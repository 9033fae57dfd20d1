"""Of all gateways of a box one runs batches at a time: a lock that the kernel frees when its process dies."""

import fcntl
import os
from pathlib import Path


class OnlyOne:
    """A lock of this process. Use it in one thread.

    Args:
        file: Made when first needed, for its owner alone.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor = -1

    def is_mine(self) -> bool:
        """Return whether this process has the lock, which it takes where nobody has it."""
        if self._descriptor >= 0:
            return True
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def close(self) -> None:
        """Free it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
