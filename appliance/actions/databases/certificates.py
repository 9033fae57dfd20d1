"""What doctor looks at of the certificates by which this box and its database server know each other."""

from collections.abc import Iterator
from typing import Final

from appliance.actions import forwarding
from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.install.dropins import ROLES
from appliance.postgres.connecting import AUTHORITY, client_name
from media.clock import Clock

_PAGE: Final = "docs/operator/postgresql.md"


def findings(config: Config, *, clock: Clock) -> Iterator[Finding]:
    """Look at the authority's and at each role's own; nothing where no server is reached by TLS."""
    if not config.database.address:
        return
    folder = config.at.database_secrets
    yield forwarding.certificate("database authority", folder / AUTHORITY, clock, is_secret=False, page=_PAGE)
    for role in sorted(set(ROLES.values())) if config.database.client else ():
        path = folder / client_name(role)
        yield forwarding.certificate(f"database certificate of {role}", path, clock, is_secret=True, page=_PAGE)
