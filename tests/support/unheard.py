"""Standard streams that nobody reads any more, or that find no room."""

import errno
import io


class Gone(io.StringIO):
    """A pipe whose reader went away."""

    def write(self, text: str) -> int:
        del text
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        del text
        raise OSError(errno.ENOSPC, "No space left on device")
