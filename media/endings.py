"""How a command of either side ends: where its result goes, what a person sees of an error, what nobody expected.

A command's work and its exit code do not hang on who listens. A stream that was closed is the null device from the
start, talk that nobody hears is dropped, a reader who went away ends nothing, and a result that could not be written is
told.
"""

import errno
import os
import select
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from media.errors import SealiftError, UnreadableError, UsageError

_SHOWN: Final = 80
_JOINERS: Final = "\u200c\u200d"  # letters of some scripts join or part by them
# What Typer says of a group without a command.
_NO_COMMAND: Final = "Missing command."
_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))

# What a place says of itself that a person chose: not theirs to write, full, not there, a name that is none.
_OF_PLACES: Final = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EEXIST,
        errno.EFBIG,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


def open_closed() -> None:
    """Put the null device in the place of each standard stream that the caller closed.

    Else the next file that is opened has the stream's number, and what a program that we start prints lands in it.
    """
    for name, mode in _STREAMS:
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - stays open
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def put(text: str) -> None:
    """Write a command's result to stdout. Where its reader went away, as `head -1` does, the rest goes nowhere.

    Raises:
        UnreadableError: It cannot be written: what stdout goes to is full, or broken.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_stdout()
    except OSError as error:
        _leave_stdout()
        raise UnreadableError(
            what="the result could not be written",
            why=f"standard output: {error.strerror or 'input/output error'}",
            fix="what the command did stays done: look at that before it is typed again, with output that has room",
        ) from error


def tell(text: str) -> None:
    """Write to stderr what a person should read; nobody may be there."""
    Heard(sys.stderr).write(text)


def shown(text: object) -> str:
    """Return a text without what a terminal would obey: escapes and marks of direction are shown by their number."""
    return "".join(letter if _is_shown(letter) else _by_number(letter) for letter in str(text))


def one_line(text: object, most: int) -> str:
    """Return the beginning of a text as one printable line, for what others say: nothing that a terminal obeys."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))[:most]


def wrong_line(said: str, asked: Any, *, as_json: bool) -> UsageError:
    """Return what a person is told of a command line that cannot be; a group without a command shows its help, too.

    Args:
        said: What the parser says.
        asked: Its context of the command that was asked for; None where there is none.
        as_json: Whether stdout is for one JSON document alone.
    """
    if asked is not None and said == _NO_COMMAND and not as_json:
        asked.get_help()  # prints it
    about = getattr(asked, "command_path", Path(sys.argv[0]).name)
    return UsageError(what=said, fix=f"see `{about} --help`")


def is_unheard() -> bool:
    """Tell whether whoever read our stdout has gone."""
    look = select.poll()
    look.register(1, 0)
    return bool(look.poll(0))


def unexpected(error: Exception) -> SealiftError:
    """Return what a person is told of an error that no command expected."""
    if isinstance(error, OSError) and error.errno in _OF_PLACES:
        named = Path(os.fsdecode(error.filename)).name[:_SHOWN] if isinstance(error.filename, str | bytes) else ""
        return UnreadableError(
            what=f"{named or 'a file'} cannot be read or written",
            why=error.strerror or "input/output error",
            fix="name a place that you may use and that has room; --debug says where it happened",
        )
    return SealiftError(
        what=f"a fault of ours ({type(error).__name__})", why="unexpected", fix="run again with --debug and report it"
    )


class Heard:
    """A stream whose writing fails without a word: talk is for whoever still listens."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what can be handed on."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's own."""
        return getattr(self._stream, name)


def _leave_stdout() -> None:
    """Let whatever is still to be written to stdout go nowhere, at the interpreter's end too."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _is_shown(letter: str) -> bool:
    return letter.isprintable() or letter in "\n\t" or letter in _JOINERS or unicodedata.category(letter) == "Zs"


def _by_number(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
