"""`sealift-bundler`: the connected side's command."""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from bundler.cli import context as shared
from bundler.cli.outline import OUTLINE, Outlined, module_of


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sealift-bundler {version('sealift')}")
        raise typer.Exit


def _root(
    context: typer.Context,
    show_version: Annotated[  # noqa: ARG001 - its callback did all
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print a traceback when something fails.")] = False,
) -> None:
    del debug  # read by `context.run`, which also sees failures before this callback
    os.umask(0o022)
    context.obj = shared.Context(as_json=as_json)


def create_app() -> typer.Typer:
    """Return the application, whose commands' modules are loaded as each is asked for."""
    app = typer.Typer(
        name="sealift-bundler",
        cls=Outlined,
        help="Turn a recipe into signed media for an isolated site: build, rehearse, sign, seal, write and read back.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    return app


def build() -> typer.Typer:
    """Return the application with every command's module loaded, which `main` leaves to whoever asks for one."""
    app = create_app()
    for module in dict.fromkeys(map(module_of, OUTLINE)):
        importlib.import_module(module).register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the `sealift-bundler` script."""
    shared.run(create_app(), list(sys.argv[1:] if arguments is None else arguments))
