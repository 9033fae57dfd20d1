"""One call to a version's engines: from whichever of them began to answer, and how it went told to all of them.

Until a word was said another engine is asked where one fails. Two at most are asked in vain by what may be the
request's own fault: what ends an engine, or makes it say that it failed, would do so with each. One that went before
it had read the request did not go for that. An answer that is longer than may be is asked of no other one, and counted
against none.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.gateway.calls import OneAfterAnother
from appliance.gateway.picking import Picking
from appliance.gateway.upstream import FAILURES, Call, is_of_request
from appliance.gateway.wellness import never
from appliance.gateway.words import ReportedError, Words, is_whole
from appliance.serve.events import AnswerTooLongError

_MOST_FAILED: Final = 2
_FORMS: Final = ("response_format", "tools")


class FleetCall(OneAfterAnother[Call]):
    """One request and its answer, from whichever instance began to give it. Only `cancel` is for other threads."""

    def __init__(
        self,
        fleet: Picking,
        *,
        route: str,
        body: Mapping[str, Any],
        session: str = "",
        goes_on: bool = False,
        left: Callable[[], bool] = never,
        still: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._fleet = fleet
        self._session = session
        self._goes_on = goes_on
        self._route = route
        self._body = body
        self._tried: frozenset[str] = frozenset()
        self._is_spared = self._is_open = self._is_trial = False
        self._name = self._reported = ""
        self._gone = 0
        self._began = 0.0
        self._since = 0
        self._left = left
        self._still = still
        self._call = self._another(None)
        self._left = never  # from here on somebody watches, who cancels

    def close(self) -> None:
        """Give up what was not read."""
        self._heard()
        self._call.close()
        self._end()

    def fileno(self) -> int:
        """Return what can be read when the instance that is asked answers; -1 where the call is over."""
        return self._call.fileno()

    def opened(self) -> None:
        """Wait until an instance accepts the request; one that does not is left for another that was not asked yet.

        Raises:
            EngineRefusedError: As `appliance.gateway.upstream.Call.opened`, of the last instance.
            EngineUnavailableError: Likewise.
            EngineProtocolError: Likewise.
        """
        while not self._is_open:
            self._fleet.waits(self._name, self._call, since=self._since)  # also behind its head, in a stream
            try:
                self._call.opened()
            except FAILURES as error:
                if is_of_request(error):
                    self._heard()
                    self._fleet.heard(self._name)
                    raise
                self._leave(error)
            else:
                self._is_open = True
                self._fleet.heard(self._name)

    def answer(self) -> dict[str, Any]:
        """Return the whole answer; see `appliance.gateway.upstream.Call.answer`.

        An instance that failed in the middle of it is left for another one: nobody has heard a word of it.
        """
        while True:
            self.opened()
            self._heard()
            try:
                said = self._call.answer()
                is_well = is_whole(said, name=self._name)
            except AnswerTooLongError:
                raise  # of what was asked: it is no fault that another instance would not have, too
            except (EngineUnavailableError, EngineProtocolError) as error:
                self._leave(error)
            else:
                if is_well:
                    self._did_better()
                    self._fleet.answered(self._name, None, is_trial=self._is_trial)
                    self._fleet.ended_well(self._name)
                return said

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream; see `appliance.gateway.upstream.Call.events`.

        An instance that failed before its first word is left for another one; see `Words` for what is none, and fails.
        """
        while True:
            self.opened()
            words = Words(self._call.events(), name=self._name, began=self._begins)
            try:
                yield from words
            except AnswerTooLongError:
                raise  # as of a whole answer
            except (EngineUnavailableError, EngineProtocolError) as error:
                if not words.is_begun:
                    self._leave(error)
                    continue
                if not isinstance(error, ReportedError) or not any(self._body.get(name) for name in _FORMS):
                    self._fault(error)  # where a form was to be kept, it may be that no token fits it
                raise
            else:
                if words.is_whole and not self._is_cancelled:
                    self._fleet.ended_well(self._name)
                return

    def misspoke(self) -> None:
        """Note a wrong shape behind a stream's first word, for which `Words` does not look; see `EngineCall`."""
        if self._name and not self._has_left():
            self._fleet.failed(self._name)

    def _did_better(self) -> None:
        """Note that an instance failed, by its own word, at what another one did."""
        if self._reported:
            self._fleet.failed(self._reported)
            self._reported = ""

    def _begins(self) -> None:
        self._call.began()
        self._heard()
        self._did_better()
        self._fleet.answered(self._name, self._fleet.now() - self._began, is_trial=self._is_trial)

    def _heard(self) -> None:
        """Note that nobody waits for first words any more."""
        self._fleet.departures.heard(self._name, self._call)

    def _leave(self, error: Exception) -> None:
        """Go on with another instance than the one that failed.

        Raises:
            Exception: `error`, where the caller left or nobody else is to be asked; or what `still` raises.
        """
        self._heard()
        if isinstance(error, ReportedError):
            failed = 1 + bool(self._reported) + self._gone
            self._reported = self._name
        else:
            was_spared = self._is_spared
            self._fault(error, was_kept=self._call.was_kept)
            is_gone = isinstance(error, EngineUnavailableError | EngineProtocolError)
            self._gone += is_gone and self._is_spared == was_spared and not self._call.is_unread
            failed = self._gone + bool(self._reported)
        if self._is_cancelled:
            raise error
        self._call.close()
        if failed >= _MOST_FAILED:
            raise error
        self._still()  # the one that failed may have had it for minutes
        self._end()
        self._follow(self._another(error))
        self._fleet.elsewhere()
        self._is_open = False

    def _another(self, error: Exception | None) -> Call:
        while True:
            self._since = self._fleet.departures.count
            picked = self._fleet.pick(self._tried, self._session, goes_on=self._goes_on, left=self._has_left)
            if picked is None:
                raise error or nobody()
            self._name, self._is_trial, self._began = picked.name, picked.is_trial, self._fleet.now()
            self._tried |= {picked.name}
            try:
                return picked.upstream.start(self._route, self._body, again=self._fleet.is_alone())
            except EngineUnavailableError as unreachable:
                self._fault(unreachable, was_kept=True)  # where nobody listens, it is gone and not spared
                self._end()
                error = unreachable

    def _fault(self, error: Exception, *, was_kept: bool = False) -> None:
        is_broken = isinstance(error, EngineUnavailableError | EngineProtocolError)
        left = self._has_left
        if left() or (is_broken and self._fleet.broke_off(self._name, left=left)) or left():
            return  # it was the caller who broke off, also while it was found out whether the instance is gone
        if is_broken and was_kept and not self._is_spared and not self._is_open and not self._fleet.is_alone():
            # It is well, and had closed an idle connection, as engines do: no fault, and it may be asked once more.
            self._is_spared = True
            self._tried -= {self._name}
            return
        self._fleet.failed(self._name)

    def _has_left(self) -> bool:
        return self._is_cancelled or self._left()

    def _end(self) -> None:
        name, self._name = self._name, ""
        if name:
            self._fleet.ended(name, is_trial=self._is_trial)


def nobody() -> EngineUnavailableError:
    """Return the error where there is no engine left to ask."""
    return EngineUnavailableError(what="no engine answers", why="all were asked", fix="see `sealift status`")
