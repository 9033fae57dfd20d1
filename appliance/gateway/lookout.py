"""Looks after calls that wait long for an instance's first words: one that stands still closes no connection.

One thread for each version that has several instances. It starts with the first call that waits, so after any fork.
"""

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

WAITED_SECONDS: Final = 5.0
"""How long a call waits until its instance is asked whether it is well, and again behind each answer."""


class Lookout:
    """Tells whom to ask; safe for threads.

    Args:
        waited: Says for whom some call has waited for so many seconds.
        ask: Finds out whether an instance stands still; may take as long as a question may.
        seconds: How long calls wait before.
    """

    def __init__(
        self,
        waited: Callable[[float], Collection[str]],
        ask: Callable[[str], None],
        *,
        seconds: float = WAITED_SECONDS,
    ) -> None:
        self._waited = waited
        self._ask = ask
        self._seconds = seconds
        self._news = threading.Condition()
        self._doubted: set[str] = set()
        self._is_over = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Look from now on; does nothing where that was begun."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._news:
            if self._is_over or (self._thread is not None and self._thread.is_alive()):
                return
            thread = threading.Thread(target=self._run, name="engine-lookout", daemon=True)
            with suppress(RuntimeError):  # no room for a thread: the next call that waits tries again
                thread.start()
                self._thread = thread

    def doubt(self, name: str) -> None:
        """Let an instance be asked at once, if calls wait for it: somebody found that it says nothing."""
        with self._news:
            self._doubted.add(name)
            self._news.notify_all()

    def close(self) -> None:
        """Look no more."""
        with self._news:
            self._is_over = True
            self._news.notify_all()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._doubted or self._is_over, timeout=self._seconds)
                if self._is_over:
                    return
                doubted, self._doubted = self._doubted, set()
            for name in {*self._waited(self._seconds), *(doubted & {*self._waited(0.0)})}:
                self._ask(name)
