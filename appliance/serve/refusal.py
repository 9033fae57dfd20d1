"""How an engine's unit says why it does not serve: in the journal, in its status, and by its exit code.

Promises: what a worker was refused for reaches the process that systemd watches, which ends with the error's own exit
code (SERVE-4 of `appliance.serve.launcher`).
"""

import mmap
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from appliance.errors import EngineUnavailableError
from media.errors import SealiftError


class Refusal:
    """Carries a worker's refusal to the process that systemd watches, and listens to: memory that both have."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def guarded(self, make: Callable[[], Any]) -> Any:
        """Return what `make` returns, and note the exit code of its error.

        Raises:
            SealiftError: As `make`.
        """
        try:
            return make()
        except SealiftError as error:
            self._note(error.exit_code, f"{error.code}: {error.what}")
            tell(error)
            raise
        except MemoryError:
            # Worth another try: its unit starts again, a bounded number of times.
            self._note(EngineUnavailableError.exit_code, f"{EngineUnavailableError.code}: memory is short")
            raise

    @property
    def code(self) -> int:
        """The exit code; 0 when nothing was refused."""
        return self._memory[0]

    @property
    def status(self) -> str:
        """What `systemctl status` shows of it."""
        return self._memory[1:].partition(b"\0")[0].decode(errors="replace")

    def _note(self, code: int, text: str) -> None:
        raw = text.encode()[: mmap.PAGESIZE - 2]
        self._memory[0] = code
        self._memory[1 : 1 + len(raw)] = raw


def tell(error: SealiftError, say: Callable[[str], None] = lambda _: None) -> None:
    """Say an error where the journal has it, and by `say` for `systemctl status`, in the process that systemd hears."""
    sys.stderr.write(f"{error.what} ({error.why}) {error.fix}\n")
    with suppress(OSError):
        say(f"STATUS={error.code}: {error.what}")
