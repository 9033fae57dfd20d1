"""A connection to an engine that says given bytes and nothing else, for what reads its responses."""

import io
from collections.abc import Sequence


class Engine:
    """Says these pieces, one for each read, and closes.

    Attributes:
        left: What was not read.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.left = [piece for piece in pieces if piece]

    def recv(self, most: int) -> bytes:
        """Return the next piece, or as much of it as is asked for."""
        if not self.left:
            return b""
        piece = self.left.pop(0)
        if len(piece) > most:
            self.left.insert(0, piece[most:])
        return piece[:most]

    def makefile(self, _mode: str) -> io.BytesIO:
        """Return all of it as a file, which is what `http.client` reads."""
        return io.BytesIO(b"".join(self.left))
