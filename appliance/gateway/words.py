"""How far an engine came with an answer, by its events: whether a word was said, whether it failed, how it ended."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from appliance.errors import EngineProtocolError
from appliance.gateway.reading import GIVEN_UP, Usage, broken, parts_of
from appliance.serve.events import refusal

_REFUSALS: Final = frozenset({"invalid_request_error", "BadRequestError"})  # OpenAI's word, and vLLM's
_BAD_REQUEST: Final = 400
_FAILED: Final = "engine_failed"  # our engines' own code, whatever else they call it


class ReportedError(EngineProtocolError):
    """An engine said itself that it failed, or how its answer ended it did not say: perhaps for the request alone."""


class Words:
    """The events of a stream from its first word to its end.

    What comes before the first word is left out: engines say who speaks before they read the prompt, and callers were
    told so by the gateway.

    Args:
        events: Of the engine.
        name: The engine's socket's.
        began: Called when the first word is there; where it raises, none was said.

    Attributes:
        is_begun: A word was said, or how an answer ended.
        is_whole: All was said, and an answer ended.
    """

    def __init__(self, events: Iterable[dict[str, Any]], *, name: str, began: Callable[[], None]) -> None:
        self._events = events
        self._name = name
        self._began = began
        self.is_begun = False
        self.is_whole = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield them.

        Raises:
            EngineRefusedError: The engine refuses the request, after it had told that an answer comes.
            ReportedError: The engine says that it failed, or not how its answer ended.
            EngineProtocolError: It broke off, or what it says before its first word has a wrong shape.
        """
        has_end = False
        for event in self._events:
            _require_no_error(event, name=self._name)
            ends = _has_end(event)
            if not self.is_begun and _says_anything(event):
                self._began()
                self.is_begun = True
            if self.is_begun:
                has_end = ends or has_end
                yield event
        if not has_end:
            raise _reported("it says of no answer how it ended")
        self.is_whole = True


def _require_no_error(untrusted: Mapping[str, Any], *, name: str) -> None:
    """Return where an engine reports no error.

    Raises:
        EngineRefusedError: It says that the request is at fault, so another one would say so, too.
        ReportedError: It says that it failed.
    """
    error = untrusted.get("error")
    if not error:
        return
    code, kind = (error.get("code"), error.get("type")) if isinstance(error, dict) else (None, None)
    status = code if isinstance(code, int) and 400 <= code < 500 and code not in {408, 429} else 0
    if status or (isinstance(kind, str) and kind in _REFUSALS and code != _FAILED):
        raise refusal(name, status or _BAD_REQUEST, error)
    raise _reported("it reported a failure in the middle of an answer")


def is_whole(untrusted: Mapping[str, Any], *, name: str) -> bool:
    """Tell whether a whole answer is one: of an answer it says how it ended.

    Args:
        untrusted: The answer.
        name: The engine's socket's.

    Raises:
        EngineRefusedError: The engine refuses the request in it.
        ReportedError: The engine says that it failed, or gave an answer up.
    """
    _require_no_error(untrusted, name=name)
    return _has_end(untrusted) or not isinstance(untrusted.get("choices"), list)  # vectors have none


def _has_end(untrusted: Mapping[str, Any]) -> bool:
    choices = untrusted.get("choices")
    if not isinstance(choices, list):
        return False  # whether shapes are right is for `parts_of` to judge
    reasons = [one.get("finish_reason") for one in choices if isinstance(one, dict)]
    if any(isinstance(reason, str) and reason in GIVEN_UP for reason in reasons):
        raise _reported("it gave an answer up")
    return any(reasons)


def _says_anything(untrusted: Mapping[str, Any]) -> bool:
    return any(not isinstance(part, Usage) for part in parts_of(untrusted))


def _reported(why: str) -> ReportedError:
    error = broken(why)
    return ReportedError(what=error.what, why=error.why, fix=error.fix)
