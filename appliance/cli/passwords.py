"""Where a command gets a password: a file, standard input, or a prompt on a terminal; never an argument."""

import sys
from pathlib import Path

import typer

from appliance.config import Config
from media.errors import UsageError

_LONGEST = 1024


def read(path: Path | None, *, prompt: str, confirm: bool = False) -> str:
    """Return a password: the first line of a file (``-`` is standard input), else what is typed at a prompt.

    Raises:
        UsageError: There is neither a file nor a terminal, or what is there is no text.
    """
    if path is not None:
        try:
            line = _first_line(path)
            line.encode()  # where the locale is C, bytes that are no text come through standard input
        except (OSError, UnicodeError) as error:
            raise UsageError(
                what=f"the password {'on standard input' if _is_stdin(path) else 'file'} cannot be read",
                why="it is not UTF-8 text" if isinstance(error, UnicodeError) else type(error).__name__,
                fix="check its path and owner, and that it was written as UTF-8",
            ) from error
        return line
    require_terminal()
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))


def _first_line(path: Path) -> str:
    if _is_stdin(path):
        return sys.stdin.readline(_LONGEST).rstrip("\r\n")
    with path.open(encoding="utf-8") as file:
        return file.readline(_LONGEST).rstrip("\r\n")


def _is_stdin(path: Path) -> bool:
    return str(path) == "-"


def require_terminal() -> None:
    """Return when somebody can be asked.

    Raises:
        UsageError: There is no terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError(what="a password is needed", why="there is no terminal", fix="give --password-file PATH")


def of_asker(config: Config, person: str, path: Path | None) -> str | None:
    """Return the password of who asks people for approval: where who requests does not approve, or a file was given.

    Raises:
        UsageError: It is needed, and there is neither a file nor a terminal.
    """
    if path is None and config.release_is_request:
        return None
    return read(path, prompt=f"Password of {person}")
