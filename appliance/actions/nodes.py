"""Several nodes of one site that answer at once: who has the ledger open, who leads, what each counts by itself."""

from collections.abc import Iterator

from appliance.actions.findings import Finding
from appliance.audit.postgres_sharing import Node, nodes_of
from appliance.config import Config
from appliance.errors import LedgerUnavailableError

_PAGE = "docs/operator/postgresql.md"


def said(config: Config) -> tuple[str, list[Node]]:
    """Return one line on the nodes, and them; nothing where a single node answers.

    Raises:
        LedgerUnavailableError: The database server is away.
    """
    own = config.database.node
    if config.at.server is None or not own:
        return "", []
    found = nodes_of(config.at)
    leading = next((one.name for one in found if one.leads), "nobody")
    return f"node {own}, of {', '.join(one.name for one in found) or 'none'}; {leading} leads", found


def findings(config: Config) -> Iterator[Finding]:
    """Which nodes record, and that limits are not counted together; nothing where a single node answers."""
    try:
        text, found = said(config)
    except LedgerUnavailableError:  # that the server is away is another finding
        return
    if not text:
        return
    names = [one.name for one in found]
    yield Finding(
        name="nodes",
        is_good=config.database.node in names and any(one.leads for one in found),
        text=text,
        why="a node that has the ledger open answers; one of them decides for the site",
        fix=f"start sealift-ledger on this node; {_PAGE}: several nodes",
    )
    yield Finding(
        name="limits",
        is_good=None,
        text=f"each of {max(len(names), 1)} nodes counts requests, tokens and places by itself",
        why="a caller who reaches several nodes may use as much on each of them",
        fix="divide the limits of the site file by the number of nodes, or send each caller to one node",
    )
