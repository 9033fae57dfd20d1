"""`sealift-bundler`: the connected side's command."""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from bundler.cli import context as shared
from media.errors import UsageError

# In the order a release is made.
_COMMANDS = (
    "key",
    "ceremony",
    "root",
    "build",
    "scan",
    "rehearse",
    "attest",
    "sign",
    "seal",
    "handin",
    "labels",
    "write",
    "delta",
    "remake",
    "reissue",
    "emergency",
    "check",
    "custody",
    "register",
    "probe",
    "assess",
    "inspect",
    "diff",
    "model_signing",
)


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
    """Return the application with every command registered."""
    app = typer.Typer(
        name="sealift-bundler",
        help="Turn a recipe into signed media for an isolated site: build, rehearse, sign, seal, write and read back.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name in _COMMANDS:
        importlib.import_module(f"bundler.cli.{name}").register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the `sealift-bundler` script."""
    wanted = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app = create_app()
    except ModuleNotFoundError as error:
        # A box has this script from the one wheel, and none of the libraries that only this side needs.
        lacking = UsageError(
            what="no release can be made in this environment",
            why=f"{error.name} is not installed here: a box receives, and has nothing to make releases with",
            fix="run it on the connected machine, in an environment with the extra `bundler` of sealift",
        )
        shared.end(lacking, as_json="--json" in wanted)
    shared.run(app, wanted)
