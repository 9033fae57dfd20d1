"""`sealift network`: what the packet filter lets in and out, what it counted, and the self-test of both."""

from typing import Annotated

import typer

from appliance.actions import nettest
from appliance.actions.nettest import SelfTest
from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.cli import context as shared
from appliance.config import Config
from appliance.errors import NetworkOpenError

_group = typer.Typer(help="The network: what is let in and out, and its self-test.", no_args_is_help=True)
_WORDS = {True: "holds", False: "DOES NOT HOLD", None: "not tried"}


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(_group, name="network")


@_group.command("show")
def _show(context: typer.Context) -> None:
    """Show who may reach this machine, whom it may call, and the newest self-test with its counters."""
    own = shared.of(context)
    found, network = nettest.published(own.config.at), own.config.network
    facts = {
        "addresses": list(network.addresses),
        "clients": list(network.clients),
        "management": list(network.management),
        "operations": _operations(own.config),
        "destinations": list(own.config.destinations),
        "tested": None if found is None else found.to_json(),
    }
    lines = [
        f"addresses     {', '.join(network.addresses) or 'all of this machine'}",
        f"API (443)     from {', '.join(network.clients) or 'nobody'}",
        f"page, SSH     (8443, 22) from {', '.join(network.management) or 'nobody'}",
        f"metrics       (9090) from {', '.join(_operations(own.config)) or 'nobody'}",
        f"may call      {', '.join(own.config.destinations) or 'nobody'}",
        *(["self-test     none in this boot"] if found is None else _lines(found)),
    ]
    own.result(facts, "\n".join(lines))


@_group.command("test")
def _test(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Test, and neither record nor publish it.")] = False,
) -> None:
    """Try what must be refused and what must work (root), record it, and end with 79 when something does not hold."""
    own = shared.of(context)
    tested = nettest.run(own.config, clock=own.clock)
    if not dry_run:
        ledger = open_ledger(own.config, ACTIONS, clock=own.clock)
        try:
            nettest.record(own.config, ledger, tested)
        finally:
            ledger.close()
    own.result({"ok": not tested.failed, **tested.to_json()}, "\n".join(_lines(tested)))
    if tested.failed:
        raise typer.Exit(NetworkOpenError.exit_code)


def _operations(config: Config) -> list[str]:
    return list(config.monitoring.networks) if config.monitoring.enabled else []


def _lines(found: SelfTest) -> list[str]:
    return [
        f"self-test     {found.at}",
        *(f"  {_WORDS[one.holds]:<14}{one.name}: {one.text}" for one in found.checks),
        *(f"  {count:>12}  {name.replace('_', ' ')}" for name, count in found.counters.items()),
    ]
