"""PINs and passphrases: asked at the terminal or read from a descriptor, never from arguments or the environment.

What is asked here lives in memory only, is in no error and no record, and is asked once for each key of a command.
"""

import getpass
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from bundler.errors import SigningError
from media.errors import UsageError

_LONGEST = 1024


class Secrets(Protocol):
    """Where a PIN or passphrase comes from."""

    def ask(self, what: str) -> str:
        """Return the secret for what is named to the person.

        Raises:
            SigningError: There is none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Typed:
    """A person types it; it is not shown."""

    def ask(self, what: str) -> str:
        """Ask at the terminal.

        Raises:
            SigningError: Nobody is there to type.
        """
        if not sys.stdin.isatty():
            raise SigningError(
                what=f"nobody can type {what}", why="this is no terminal", fix="give it by --secret-fd NUMBER"
            )
        return getpass.getpass(f"{what}: ")


@dataclass(slots=True)
class FromDescriptor:
    """Lines of a descriptor that the caller opened, one for each secret, in the order in which they are asked.

    A token is asked for once, however many of its keys are used.

    Args:
        number: Such as 3, after `3< <(pass show token)` or systemd's own.
    """

    number: int
    _lines: Iterator[str] | None = field(default=None, repr=False)

    def ask(self, what: str) -> str:
        """Take the next line.

        Raises:
            SigningError: There is no further line.
            UsageError: It is no descriptor that can be read.
        """
        if self._lines is None:
            try:
                with os.fdopen(self.number, "rb") as stream:
                    untrusted = stream.read(_LONGEST * 16)
                self._lines = iter(untrusted.decode("utf-8").splitlines())
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(
                    what=f"descriptor {self.number} holds no secrets",
                    why="it is not open for reading, or not text",
                    fix="open it in the shell: --secret-fd 3 3< <(…)",
                ) from error
        line = next(self._lines, None)
        if line is None:
            raise SigningError(
                what=f"no line was left for {what}",
                why="the descriptor has one line for each secret, in the order of the keys",
                fix="give as many lines as keys are named",
            )
        return line
