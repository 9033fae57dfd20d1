"""Liveness of a service that gunicorn runs: its master tells, and only while its worker has proven that it works.

The master's own loop is the one that tells, so a master that hangs is silent. The worker writes the time of its last
proof into memory that both have: its main loop turned, a task went through its pool of threads, and what the service
adds (the engine's scheduler) answered. A worker that is still loading has proven nothing yet; gunicorn's own `timeout`
bounds that. The master tells READY too, which gunicorn's own word would be too early for where a service is ready only
when its worker has loaded; gunicorn finds no address, since `appliance.unit` took it. The supervisor listens to nobody
else (NotifyAccess=main), so a worker that is taken over cannot speak for the service.
"""

import mmap
import os
import signal
import struct
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from appliance import unit
from appliance.watchdog.loops import TURNS_PER_LIMIT, Probe

HEARTBEATS: Final = "/dev/shm"  # noqa: S108 - files of a master and its worker alone, without a name
"""Where gunicorn's own sign of life lies: in memory, so that a service starts on a full disk, too."""
STOP_SECONDS: Final = 25
"""How long gateways and engines that are told to stop go on with what they began: both from one moment on where all of
it stops. A gateway breaks off before that what is left (`appliance.gateway.lingering`): its callers hear of it from it,
and no engine is gone before."""
_MOMENT: Final = struct.Struct("@q")
_LOADED: Final = 1
_ANNOUNCED: Final = 2


class SharedPulse:
    """The moment of a worker's last proof, in memory that its master has too; both clocks are the machine's own."""

    def __init__(self, *, now: Callable[[], float] = monotonic) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._now = now

    def beat(self) -> None:
        """Note a proof."""
        _MOMENT.pack_into(self._memory, 0, max(1, int(self._now() * 1000)))

    def within(self, seconds: float) -> bool:
        """Whether the last proof is at most so long ago, or there was none yet."""
        moment: int
        (moment,) = _MOMENT.unpack_from(self._memory, 0)
        return moment == 0 or self._now() * 1000 - moment <= seconds * 1000


class WorkerWatch:
    """The hooks of one gunicorn configuration; make it where the configuration is read.

    Args:
        probe: What else a worker asks before it counts as alive; may be set later, in the worker, before it is ready.
        announces: Whether READY waits for `loaded`; else it is told when gunicorn listens.
        now: The machine's monotonic clock.
    """

    def __init__(
        self, *, probe: Probe | None = None, announces: bool = False, now: Callable[[], float] = monotonic
    ) -> None:
        self.probe = probe
        self._announces = announces
        self._now = now
        self._limit_seconds = unit.watchdog_seconds()
        self._notifier = unit.Notifier()
        self._told = 0.0
        self._loaded = mmap.mmap(-1, 1)

    def when_ready(self, server: Any) -> None:
        """Tell from now on in each turn of the master's loop; gunicorn's hook of that name."""
        if not self._announces:
            self._say("READY=1")
        if self._limit_seconds <= 0 and not self._announces:
            return
        inspect = server.murder_workers

        def inspect_and_tell() -> None:
            inspect()
            if self._loaded[0] == _LOADED:
                self._loaded[0] = _ANNOUNCED
                self._say("READY=1\nSTATUS=loaded")
            if self._limit_seconds > 0:
                self.tell(server)

        server.murder_workers = inspect_and_tell

    def pre_fork(self, _server: Any, worker: Any) -> None:
        """Give a worker the memory that it shares with its master; gunicorn's hook of that name."""
        worker.sealift_pulse = SharedPulse(now=self._now)
        self._loaded[0] = 0

    def post_worker_init(self, worker: Any) -> None:
        """Begin to prove, in the worker; gunicorn's hook of that name."""
        if self._limit_seconds > 0:
            threading.Thread(target=self._prove, args=(worker,), name="watchdog", daemon=True).start()

    def loaded(self) -> None:
        """Have the master tell that the service is ready; called in the worker."""
        self._loaded[0] = _LOADED
        os.kill(os.getppid(), signal.SIGCHLD)  # its loop turns at once, and looks

    def tell(self, server: Any) -> bool:
        """Tell the supervisor a few times within its limit; return whether every worker has proven itself."""
        workers = list(server.WORKERS.values())
        if not workers or not all(worker.sealift_pulse.within(self._limit_seconds / 2) for worker in workers):
            return False
        if self._now() - self._told >= self._limit_seconds / TURNS_PER_LIMIT:
            self._told = self._now()
            self._say("WATCHDOG=1")
        return True

    def prove_once(self, worker: Any) -> bool:
        """Go once through everything that answering goes through; returns late or never where something hangs.

        Raises:
            RuntimeError: The worker is ending.
        """
        worker.tpool.submit(int).result()
        turned = self._now() - worker.tmp.last_update() <= self._limit_seconds / 2
        if turned and (self.probe is None or self.probe()):
            worker.sealift_pulse.beat()
            return True
        return False

    def _say(self, message: str) -> None:
        with suppress(OSError):  # whoever listens may be starting again itself
            self._notifier.tell(message)

    def _prove(self, worker: Any) -> None:
        pause = threading.Event()
        with suppress(RuntimeError, CancelledError):  # the pool takes nothing more: the worker is ending
            while True:
                self.prove_once(worker)
                pause.wait(self._limit_seconds / TURNS_PER_LIMIT / 2)
