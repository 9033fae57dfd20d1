"""What every command shares: the configuration, the clock, where talk and results go, and how errors end.

Results go to stdout (`--json` makes them one JSON document), talk and progress to stderr.
"""

import io
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from typer.exceptions import TyperException

from appliance import config as configuration
from appliance.cli.everywhere import ANYWHERE, command_of
from appliance.config import Config
from appliance.errors import PrivilegeError
from appliance.wire import RemoteError
from media.clock import Clock, SystemClock
from media.errors import SealiftError, UsageError


@dataclass(slots=True, kw_only=True)
class Context:
    """Handed to every command through typer's context object."""

    config_path: Path
    as_json: bool = False
    debug: bool = False
    clock: Clock = field(default_factory=SystemClock)
    talk: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    _config: Config | None = None

    @property
    def config(self) -> Config:
        """The site file, read on first use.

        Raises:
            ConfigError: It is absent or wrong.
        """
        if self._config is None:
            self._config = configuration.load(self.config_path)
        return self._config

    def result(self, facts: Mapping[str, Any], text: str) -> None:
        """Print the command's result: `facts` as JSON with ``--json``, else `text`."""
        if self.as_json:
            sys.stdout.write(json.dumps(facts, indent=2, sort_keys=True, default=str) + "\n")
        else:
            sys.stdout.write(text if text.endswith("\n") or not text else text + "\n")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Print talk to stderr, unless results are JSON."""
        if not self.as_json:
            self.talk.print(text, markup=False)

    @contextmanager
    def progress(self, *, in_bytes: bool = False) -> Iterator[Progress]:
        """Show a progress bar on stderr; silent with ``--json``."""
        amount = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
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
    """Print the error in its three parts and leave with its exit code."""
    fields = error.to_json()
    if as_json:
        sys.stdout.write(json.dumps({"error": fields}) + "\n")
    for label, key in (("error", "what"), ("  why", "why"), ("  fix", "fix")):
        if fields[key]:
            sys.stderr.write(f"{label}: {fields[key]}\n")
    code = error.remote_exit_code if isinstance(error, RemoteError) else error.exit_code
    raise SystemExit(code)


# What Typer makes of a KeyboardInterrupt inside a command.
_INTERRUPTED = 130


def run(app: typer.Typer) -> NoReturn:
    """Run the command line; every ending is an exit code of docs/exit-codes.md."""
    _show_all_letters()
    arguments = sys.argv[1:]
    as_json, debug = "--json" in arguments, "--debug" in arguments
    # Both flags belong to the root command but read naturally anywhere on the line.
    shared_flags = [flag for flag in ANYWHERE if flag in arguments]
    rest = [argument for argument in arguments if argument not in shared_flags]
    try:
        code = command_of(app)(args=[*shared_flags, *rest], standalone_mode=False)
    except SealiftError as error:
        end(error, as_json=as_json)
    except typer.Exit as done:
        raise SystemExit(done.exit_code) from done
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except TyperException as wrong:
        about = getattr(getattr(wrong, "ctx", None), "command_path", Path(sys.argv[0]).name)
        end(UsageError(what=wrong.format_message(), fix=f"see `{about} --help`"), as_json=as_json)
    except BrokenPipeError:
        os._exit(0)
    except PermissionError as error:
        if debug:
            traceback.print_exc()
        if os.geteuid() == 0:
            end(_fault(error), as_json=as_json)
        end(
            PrivilegeError(
                what="this user may not look at what the command needs",
                why=error.strerror or "",
                fix="run it as root, with sudo; or use the page",
            ),
            as_json=as_json,
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends by a line and an exit code
        if debug:
            traceback.print_exc()
        end(_fault(error), as_json=as_json)
    if code == _INTERRUPTED:
        end(UsageError(what="interrupted", fix="run the command again; what was stored is kept"), as_json=as_json)
    raise SystemExit(code if isinstance(code, int) else 0)


def _show_all_letters() -> None:
    """Show a letter that the terminal cannot by its number, as on stderr, where it would end the command."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _fault(error: Exception) -> SealiftError:
    return SealiftError(
        what=f"a fault of ours ({type(error).__name__})", why="unexpected", fix="run again with --debug and report it"
    )
