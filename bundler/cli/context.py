"""What every command of the connected side shares: the clock, where talk and results go, and how errors end.

Results go to stdout (`--json` makes them one JSON document), talk and progress to stderr. The appliance has the same
contract in a file of its own, because the two sides import nothing of each other.
"""

import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any, NoReturn, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typer.exceptions import TyperException

from bundler.cli.everywhere import ANYWHERE, command_of
from media import endings
from media.clock import Clock, SystemClock
from media.errors import BrokenOffError, SealiftError, UsageError


class Talk(Console):
    """Stderr, for whoever still listens: a log that is full, or a reader who went away, ends no command."""

    @property
    def file(self) -> IO[str]:
        """The stream that talk goes to."""
        return cast("IO[str]", endings.Heard(super().file))

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file


@dataclass(slots=True, kw_only=True)
class Context:
    """Handed to every command through typer's context object."""

    as_json: bool = False
    clock: Clock = field(default_factory=SystemClock)
    talk: Console = field(default_factory=lambda: Talk(stderr=True, highlight=False, emoji=False))

    def result(self, facts: Mapping[str, Any], text: str) -> None:
        """Print the command's result: `facts` as JSON with ``--json``, else `text`."""
        if self.as_json:
            endings.put(json.dumps(facts, indent=2, sort_keys=True, default=str) + "\n")
        else:
            endings.put(endings.shown(text if text.endswith("\n") or not text else text + "\n"))

    def say(self, text: str) -> None:
        """Print talk to stderr, unless results are JSON. Fits every `progress` parameter of the Python functions."""
        if text and not self.as_json:
            self.talk.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, *, in_bytes: bool = False) -> Iterator[Progress]:
        """Show a progress bar on stderr; silent with ``--json``."""
        amount = DownloadColumn(binary_units=True) if in_bytes else TextColumn("{task.completed:.0f}/{task.total:.0f}")
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), amount, TimeElapsedColumn())
        with Progress(*columns, console=self.talk, disable=self.as_json, transient=False) as bar:
            yield bar


def of(context: typer.Context) -> Context:
    """Return our context from typer's."""
    found = context.obj
    if not isinstance(found, Context):
        message = "the root callback did not run"
        raise TypeError(message)
    return found


def end(error: SealiftError, *, as_json: bool) -> NoReturn:
    """Print the error in its three parts, one line each, and leave with its exit code."""
    fields = error.to_json()
    if as_json:
        with suppress(SealiftError):  # its code says more than that nobody could be told
            endings.put(json.dumps({"error": fields}) + "\n")
    for label, key in (("error", "what"), ("  why", "why"), ("  fix", "fix")):
        if fields[key]:
            endings.tell(f"{label}: {endings.shown(' '.join(str(fields[key]).split()))}\n")
    raise SystemExit(error.exit_code)


# What Typer makes of a KeyboardInterrupt inside a command.
_INTERRUPTED = BrokenOffError.exit_code


def _show_all_letters() -> None:
    """Show a letter that the terminal cannot by its number, as on stderr, where it would end the command."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def run(app: typer.Typer, arguments: list[str]) -> NoReturn:
    """Run one command line; every ending is an exit code of docs/exit-codes.md. SIGTERM ends it as Ctrl-C does."""
    endings.open_closed()
    _show_all_letters()
    # By default it would end us alone, and what we have started would run on.
    signal.signal(signal.SIGTERM, _interrupt)
    as_json, debug = "--json" in arguments, "--debug" in arguments
    # Both flags belong to the root command but read naturally anywhere on the line.
    shared_flags = [flag for flag in ANYWHERE if flag in arguments]
    rest = [argument for argument in arguments if argument not in shared_flags]
    try:
        code = command_of(app)(args=[*shared_flags, *rest], prog_name="sealift-bundler", standalone_mode=False)
    except SealiftError as error:
        if debug:
            traceback.print_exc()
        end(error, as_json=as_json)
    except typer.Exit as done:
        raise SystemExit(done.exit_code) from done
    except (typer.Abort, KeyboardInterrupt) as ended:
        end(_broken_off(ended), as_json=as_json)
    except TyperException as wrong:
        end(endings.wrong_line(wrong.format_message(), getattr(wrong, "ctx", None), as_json=as_json), as_json=as_json)
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends by a line and an exit code
        if debug:
            traceback.print_exc()
        end(_unexpected(error), as_json=as_json)
    if code == _INTERRUPTED:
        end(_broken_off(None), as_json=as_json)
    raise SystemExit(code if isinstance(code, int) else 0)


def _unexpected(error: Exception) -> SealiftError:
    if isinstance(error, BrokenPipeError) and endings.is_unheard():
        os._exit(0)
    return endings.unexpected(error)


def _broken_off(ended: BaseException | None) -> SealiftError:
    if ended is not None and isinstance(ended.__cause__ or ended.__context__, EOFError):
        return UsageError(
            what="a question was not answered",
            why="standard input ended",
            fix="type the command at a terminal, or answer by its options: see its --help",
        )
    return BrokenOffError(what="interrupted", fix="run the command again; what was downloaded and built is kept")
