"""What an exchange needs of whoever answers it: an engine, a cache, or nobody any more."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from appliance.gateway.problems import caller_left
from appliance.gateway.reading import FinishReason, Usage


class EngineCall(Protocol):
    """One request and its answer; `appliance.gateway.upstream.Call` is an engine's."""

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody cancelled; then whatever was read is worth nothing."""
        ...

    def cancel(self) -> None:
        """End the call, from any thread."""
        ...

    def close(self) -> None:
        """Give up what was not read."""
        ...

    def fileno(self) -> int:
        """Return what can be read when the answer begins to come; -1 where nothing has to be waited for."""
        ...

    def opened(self) -> None:
        """Wait until the request is accepted."""
        ...

    def answer(self) -> dict[str, Any]:
        """Return the whole answer."""
        ...

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream; returns after its end."""
        ...

    def misspoke(self) -> None:
        """Note that the event which came last has a shape that no engine's has: a fault of who said it."""
        ...


class Delivery(Protocol):
    """What reaches the caller, as far as records and metrics are concerned."""

    @property
    def usage(self) -> Usage | None:
        """Token counts, where somebody counted."""
        ...

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None before, and where answers do not end for a reason."""
        ...

    @property
    def unknown_tokens(self) -> int:
        """How many identifiers' tokens were left as they were, because the request had none like them."""
        ...

    @property
    def cut(self) -> int:
        """How many answers ended at the most tokens they might have, or at the end of the context."""
        ...

    def delivered(self) -> str:
        """Return what `response_hmac` is made over."""
        ...

    def thoughts(self) -> str:
        """Return what `thoughts_hmac` is made over; nothing where nothing was thought aloud."""
        ...


_C = TypeVar("_C", bound=EngineCall)


class OneAfterAnother(Generic[_C]):
    """What stands for several calls of which one runs: whoever cancels it ends that one, and what would follow it."""

    _call: _C

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody cancelled; see `EngineCall`."""
        return self._is_cancelled

    def cancel(self) -> None:
        """End the call that runs, from any thread; see `EngineCall`."""
        with self._lock:
            self._is_cancelled = True
            self._call.cancel()

    def _follow(self, following: _C) -> None:
        """Let another call run; it is cancelled at once where somebody cancelled while it began."""
        with self._lock:
            self._call = following
            if self._is_cancelled:
                following.cancel()


class AskedInTurn(OneAfterAnother[EngineCall]):
    """What one request asks an engine part after part, as one call: the first at once, each further one behind it.

    Args:
        starts: Ask the engine, one for each part; the first is called at once.
        still: Called before each further one; raises where that is not to be asked any more.

    Raises:
        EngineUnavailableError: Nobody listens.
    """

    def __init__(self, starts: Sequence[Callable[[], EngineCall]], *, still: Callable[[], None]) -> None:
        super().__init__()
        self._starts = starts
        self._still = still
        self._call = starts[0]()

    def close(self) -> None:
        """Give up what was not read."""
        self._call.close()

    def fileno(self) -> int:
        """Return -1: the record of the request is waited for first, since more is asked when the first one answered."""
        return -1

    def opened(self) -> None:
        """Wait until the first part is accepted; see `EngineCall`."""
        self._call.opened()

    def misspoke(self) -> None:
        """Note a wrong shape; see `EngineCall`."""
        self._call.misspoke()

    def _in_turn(self) -> Iterator[EngineCall]:
        """Yield the call of each part, which is asked when it is reached.

        Raises:
            Problem: The caller left between two parts; or what `still` raises.
        """
        yield self._call
        for start in self._starts[1:]:
            self._call.close()
            self._still()
            if self.is_cancelled:
                raise caller_left()
            self._follow(start())
            yield self._call


class Replayed:
    """An answer that was given before: what the engine said then, said again."""

    def __init__(self, said: tuple[dict[str, Any], ...]) -> None:
        self._said = said
        self._cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody cancelled; see `EngineCall`."""
        return self._cancelled

    def cancel(self) -> None:
        """End the call; see `EngineCall`."""
        self._cancelled = True

    def close(self) -> None:
        """Nothing is held."""

    def fileno(self) -> int:
        """Nothing has to be waited for; see `EngineCall`."""
        return -1

    def opened(self) -> None:
        """It is accepted."""

    def answer(self) -> dict[str, Any]:
        """Return the whole answer; see `EngineCall`."""
        return self._said[0]

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream; see `EngineCall`."""
        yield from self._said

    def misspoke(self) -> None:
        """Nobody said it just now; see `EngineCall`."""
