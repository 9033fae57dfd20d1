"""The admin page beside a real gateway: one site's ledger and state for both, and one person who may log in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from flask import Flask

from appliance.admin.application import create_admin_app
from appliance.admin.facts import Facts
from appliance.audit.rights import ADMIN
from appliance.errors import WireError
from appliance.wire import RemoteError
from media.clock import SystemClock
from tests.support.gateway_server import Server

PERSON: Final = "iris"
PASSWORD: Final = "correct horse battery"


class OnePerson:
    """A promoter that lets one person log in and knows nothing else."""

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        """Answer a login; everything else is away."""
        if do == "login" and (fields["person"], fields["password"]) == (PERSON, PASSWORD):
            return {"person": PERSON, "name": "Iris Mora", "roles": ["approver"]}
        if do == "login":
            raise RemoteError(what="unknown person", why="", fix="", code="unknown-person", exit_code=45)
        raise WireError(what="no promoter runs here", why=do, fix="")


@contextmanager
def page_beside(server: Server) -> Iterator[Flask]:
    """Yield the page's application over a running gateway's site."""
    ledger = server.site.door(ADMIN)
    try:
        yield create_admin_app(
            server.site.config,
            facts=Facts(server.state, authority_file=server.site.places.etc / "tls/trust.crt"),
            ledger=ledger,
            promoter=OnePerson(),
            jobs=OnePerson(),
            clock=SystemClock(),
        )
    finally:
        ledger.close()
