"""Which versions a box knows without being told: those of releases whose programs it has.

A release that was received and not installed brings versions that no engine here can run. Its versions are registered
when it is installed; before that a name would lead to one of them, and away from the version that was meant.
"""

from sqlalchemy import Engine

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.install.releases import InstalledReleases
from appliance.registry import catalog
from appliance.store.content import ContentStore


def register_what_is_installed(config: Config, ledger: Ledger, state: Engine) -> None:
    """Register what was received before a ledger ran; of every release where none is installed, as in a rehearsal.

    Raises:
        StoreDamagedError, MalformedError: A descriptor is not one, or names a file that its release does not hold.
        LedgerUnavailableError: Nothing more was registered.
    """
    installed = {one.serial for one in InstalledReleases(config.at).all()}
    for stored in ContentStore(config.at.store).releases():
        if not installed or stored.serial in installed:
            catalog.register(ledger, state, stored)
