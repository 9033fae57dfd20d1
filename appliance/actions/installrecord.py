"""What the ledger gets of an install that ended well, and what the ledger tells in return: its key, known versions."""

from typing import Any, Final

from appliance.audit import pin
from appliance.audit.client import Ledger, SocketLedger, open_ledger
from appliance.audit.rights import ACTIONS
from appliance.config import Config
from appliance.install.releases import InstalledRelease
from appliance.registry import catalog
from appliance.state.database import open_state
from appliance.store.content import StoredRelease
from media.clock import Clock

DONE: Final = "install.done"


def done(
    config: Config, installed: InstalledRelease, stored: StoredRelease, *, host: str, approval: str, clock: Clock
) -> None:
    """Record an install, or spool it where no ledger runs; with one, pin its key and register the release's versions.

    Raises:
        LedgerUnavailableError, StoreWriteError: It could be neither recorded nor kept.
    """
    ledger = open_ledger(config, ACTIONS, spool=True, clock=clock)
    try:
        ledger.append(DONE, _body(installed, host=host, approval=approval))
        if isinstance(ledger, SocketLedger):
            pin.pin(config.at, ledger.vkey())
            (config.at.etc / pin.FILE_NAME).chmod(0o644)
            _register(config, ledger, stored)
    finally:
        ledger.close()


def _body(installed: InstalledRelease, *, host: str, approval: str) -> dict[str, Any]:
    return {
        "serial": installed.serial,
        "release": installed.release,
        "environments": dict(installed.environments),
        "host_files": installed.host_files,
        "host": host,
        "host_approval": approval,
        **({} if installed.base is None else {"base": installed.base}),
    }


def _register(config: Config, ledger: Ledger, stored: StoredRelease) -> None:
    state = open_state(config.at)
    try:
        catalog.register(ledger, state, stored)
    finally:
        state.dispose()
