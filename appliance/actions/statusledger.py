"""The ledger as the status asks it: once, with little patience, and from its file where it does not answer.

A socket whose service refuses to start takes callers in and answers none; each would wait out its whole time there.
"""

import os
from typing import Final

from appliance.audit.client import OfflineLedger, SocketLedger, open_ledger
from appliance.audit.rights import ACTIONS, OPERATOR
from appliance.config import Config
from media.clock import Clock

# A service that was ended is back within it so one that starts is waited for.
PATIENCE_SECONDS: Final = 10.0


class StatusLedger:
    """What every part of one status asks; close it when all have.

    Args:
        config: The site file.
        clock: For the ledger's file.
    """

    def __init__(self, config: Config, *, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._opened: dict[str, SocketLedger | OfflineLedger] = {}

    def ask(self) -> SocketLedger | OfflineLedger:
        """Return the ledger through the door that this user may use."""
        return self._through(OPERATOR if self._is_operators() else ACTIONS)

    def ask_as_actions(self) -> SocketLedger | OfflineLedger:
        """Return the ledger through the door of actions, for what no operator is told.

        Raises:
            PermissionError: This user is one.
        """
        if self._is_operators():
            raise PermissionError
        return self._through(ACTIONS)

    def _is_operators(self) -> bool:
        places = self._config.at
        return os.access(places.socket(OPERATOR), os.W_OK) and not os.access(places.socket(ACTIONS), os.W_OK)

    def close(self) -> None:
        """Let go of the ledger."""
        for one in self._opened.values():
            one.close()
        self._opened.clear()

    def _through(self, door: str) -> SocketLedger | OfflineLedger:
        if door not in self._opened:
            self._opened[door] = open_ledger(self._config, door, clock=self._clock, patience_seconds=PATIENCE_SECONDS)
        return self._opened[door]
