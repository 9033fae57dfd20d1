"""The engines of each version as one to ask: an instance for each call, and another before a caller heard a word."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from appliance.gateway.fleetcall import FleetCall, nobody
from appliance.gateway.picking import Picking
from appliance.gateway.upstream import FAILURES, is_of_request
from appliance.gateway.wellness import never
from appliance.serve.client import EngineClient

_T = TypeVar("_T")


class Fleet(Picking):
    """One version's engines; safe for threads. See `Picking`."""

    def ask(self, question: Callable[[EngineClient], _T], *, left: Callable[[], bool] = never) -> _T:
        """Put a short question to an instance, and to another one where that does not answer or is busy.

        Raises:
            Problem: The caller `left` before an instance was found.
            EngineRefusedError: It refused, or all are busy.
            EngineUnavailableError, EngineProtocolError: None answers.
        """
        tried: frozenset[str] = frozenset()
        last: Exception | None = None
        while (picked := self.pick(tried, left=left)) is not None:
            tried |= {picked.name}
            try:
                return question(picked.upstream.client)
            except FAILURES as error:
                if is_of_request(error):
                    raise
                self.broke_off(picked.name, left=left)  # that it is slow to count says nothing about its answers
                last = error
            finally:
                self.ended(picked.name, is_trial=picked.is_trial)
        raise last or nobody()

    def start(
        self,
        route: str,
        body: Mapping[str, Any],
        *,
        session: str = "",
        goes_on: bool = False,
        left: Callable[[], bool] = never,
        still: Callable[[], None] = lambda: None,
    ) -> FleetCall:
        """Send a request to an instance without waiting for its answer.

        Args:
            route: Of the engine.
            body: What it is asked.
            session: What belongs together and is best answered by one instance; empty where nothing does.
            goes_on: Whether the session was answered before.
            left: Whether the caller has left; asked until this returns, from where on `cancel` is for that.
            still: Raises where the request is not to be answered any more; called before a second instance is asked.

        Raises:
            Problem: The caller left.
            EngineUnavailableError: Nobody listens.
        """
        return FleetCall(self, route=route, body=body, session=session, goes_on=goes_on, left=left, still=still)
