"""Waiting for what another thread does."""

import time
from collections.abc import Callable
from typing import Final

_PATIENCE_SECONDS: Final = 20.0


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)
