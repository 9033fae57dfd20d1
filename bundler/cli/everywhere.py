"""What every command takes stands in every command's own help, and is completed there: `--json` and `--debug`.

They belong to the root command and may stand anywhere on a line (`context.run`). Who reads the help of one command
would learn of neither. The appliance and the connected side have this each in a file of its own, because the two import
nothing of each other.
"""

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, Final, cast

import typer
import typer.main
from typer.core import TyperOption

ANYWHERE: Final = ("--json", "--debug")
_PANEL: Final = "On every command"


def command_of(app: typer.Typer) -> Callable[..., Any]:
    """Return the whole command line, each command of which takes what every command does."""
    root: Any = typer.main.get_command(app)
    root.no_args_is_help = False  # Typer's own help is printed whatever `--json` says: `context.run` shows it
    give(root, root)
    return cast("Callable[..., Any]", root)


def give(root: Any, group: Any) -> None:
    """Let each command below a group take what every command of the root does, and ask for what is missing."""
    shared = [_shared(one) for one in root.params if isinstance(one, TyperOption) and one.opts[0] in ANYWHERE]
    for command in _below(group):
        command.params += shared
        command.no_args_is_help = False


def _below(group: Any) -> Iterator[Any]:
    for command in getattr(group, "commands", {}).values():
        yield command
        yield from _below(command)


def _shared(option: TyperOption) -> TyperOption:
    made = copy(option)
    made.expose_value = False  # no command's function is told: the root command was
    made.rich_help_panel = _PANEL
    return made
