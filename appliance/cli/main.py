"""`sealift`: the isolated side's command."""

import importlib
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from appliance import config as configuration
from appliance.cli import context as shared

_COMMANDS = (
    "trust",
    "inspect",
    "media",
    "receive",
    "evidence",
    "custody",
    "export",
    "scrub",
    "install",
    "host",
    "setup",
    "run_units",
    "status",
    "doctor",
    "logs",
    "gpus",
    "clock",
    "network",
    "capacity",
    "readiness",
    "people",
    "versions",
    "stage",
    "validate",
    "evals",
    "policy",
    "answers",
    "approve",
    "promote",
    "canary",
    "route",
    "rollback",
    "review",
    "stop",
    "emergency",
    "alerts",
    "siem",
    "history",
    "affected",
    "keys",
    "automation",
    "boxkeys",
    "retention",
    "samples",
    "census",
    "tls",
    "audit",
    "state",
    "db",
    "backup",
    "retire",
    "uninstall",
    "standby",
    "report",
    "window",
    "controls",
    "prove",
    "ask",
    "chat",
)

# The modules of commands that are called otherwise.
_MODULES = {"models": "versions", "box-keys": "boxkeys", "drill": "backup", "run": "ask"}
_SMALLEST = "ask"

app = typer.Typer(
    name="sealift",
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
def build(only: str = "") -> typer.Typer:
    """Return the application with every command registered, or with those of one module."""
    for name in (only,) if only else _COMMANDS:
        importlib.import_module(f"appliance.cli.{name}").register(app)
    return app


def asked(arguments: Sequence[str]) -> str:
    """Return the module of the command that is asked for, where its name says which; else nothing.

    Most of a short command's time is the others' modules, and going back should not wait for them.
    """
    words = iter(arguments)
    for word in words:
        if word == "--version":
            return _SMALLEST
        if word == "--config":
            next(words, None)
        elif not word.startswith("-"):
            name = _MODULES.get(word, word.replace("-", "_"))
            return name if name in _COMMANDS and "_SEALIFT_COMPLETE" not in os.environ else ""
    return ""


def main() -> NoReturn:
    """Entry point of the `sealift` script."""
    shared.run(build(asked(sys.argv[1:])))


if __name__ == "__main__":
    main()
