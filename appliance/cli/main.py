"""`sealift`: the isolated side's command."""

import importlib
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from appliance import config as configuration
from appliance.cli import context as shared
from appliance.cli.outline import OUTLINE, Outlined, module_of

app = typer.Typer(
    name="sealift",
    cls=Outlined,
    help="Receive, install, promote and serve an LLM on an isolated machine, and prove every answer's origin.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sealift {version('sealift')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    show_version: Annotated[  # noqa: ARG001 - its callback did all
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", help="The site file.", envvar="SEALIFT_CONFIG")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print a traceback when the fault is ours.")] = False,
) -> None:
    os.umask(0o027)
    context.obj = shared.Context(config_path=config or configuration.DEFAULT_PATH, as_json=as_json, debug=debug)


@cache
def build() -> typer.Typer:
    """Return the application with every command's module loaded, which `main` leaves to whoever asks for one."""
    for module in dict.fromkeys(map(module_of, OUTLINE)):
        importlib.import_module(module).register(app)
    return app


def main() -> NoReturn:
    """Entry point of the `sealift` script."""
    shared.run(app)


if __name__ == "__main__":
    main()
