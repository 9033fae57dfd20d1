"""`sealift siem`: how what the ledger records goes to the site's collector."""

import typer

from appliance.actions import forwarding
from appliance.actions.forwarding import SILENT_SECONDS, Standing
from appliance.cli import context as shared
from appliance.cli.marks import marked
from appliance.errors import CollectorError


def register(app: typer.Typer) -> None:
    """Add the command."""
    siem = typer.Typer(help="The site's collector of records.", no_args_is_help=True)
    app.add_typer(siem, name="siem")
    siem.command("status")(_status)
    siem.callback()(lambda: None)


def _status(context: typer.Context) -> None:
    """Say what was sent, what waits and what keeps it. Ends with 95 when records wait too long or nothing runs."""
    own = shared.of(context)
    chosen = own.config.siem
    if not chosen.address:
        own.result({"configured": False}, "the site file names no collector")
        return
    found = Standing.read(own.config.at.siem_now)
    looked = list(forwarding.findings(own.config, clock=own.clock))
    runs = found is not None and found.age_seconds(own.clock) <= SILENT_SECONDS
    facts = {
        "configured": True,
        "server": chosen.server,
        "address": chosen.address,
        "port": chosen.port,
        "format": chosen.format,
        "client_certificate": chosen.client,
        "runs": runs,
        "standing": None if found is None else found.to_json(),
        "findings": [one.to_json() for one in looked],
    }
    client = ", with a client certificate" if chosen.client else ""
    lines = [f"collector {chosen.server} at {chosen.address} port {chosen.port}, {chosen.format}{client}"]
    if found is not None:
        lines.append(f"next record {found.sequence}; last taken {found.taken or 'not since the start'}")
    lines += [marked(one.name, one.text, is_good=one.is_good) for one in looked]
    own.result(facts, "\n".join(lines))
    if any(one.is_good is False for one in looked):
        raise typer.Exit(CollectorError.exit_code)
