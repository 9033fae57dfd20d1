"""Reads server-sent events of an engine: `data:` lines of one JSON object each, then `data: [DONE]`.

Bytes may be cut anywhere, also inside a UTF-8 sequence, so lines are split before they are decoded. Comments, other
fields and blank lines are skipped, as the standard says, and a byte order mark before all of them.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from appliance.errors import EngineProtocolError, EngineRefusedError, EngineUnavailableError

_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
MAX_EVENT_BYTES: Final = 4 * 1024 * 1024

DONE: Final[dict[str, Any]] = {}
"""What `EventReader.feed` yields for `[DONE]`; compare with ``is``."""


class AnswerTooLongError(EngineProtocolError):
    """An engine's answer has more bytes than are read of one: so would any other engine's to the same request."""


class EventReader:
    """Joins pieces of a stream to events.

    Args:
        name: The engine's socket name, for errors.
    """

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._rest = b""
        self._has_begun = False

    def feed(self, untrusted: bytes) -> Iterator[dict[str, Any]]:
        """Yield each event that the new bytes complete.

        Raises:
            EngineProtocolError: A line is too long or holds no JSON object.
        """
        *lines, self._rest = (self._rest + untrusted).split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise broken(self._name, f"an event is longer than {MAX_EVENT_BYTES} bytes")
        if lines and not self._has_begun:  # with its first line skipped, an answer would lack its first word
            self._has_begun, lines[0] = True, lines[0].removeprefix(codecs.BOM_UTF8)
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line.removeprefix(b"data:").strip()
            yield DONE if data == b"[DONE]" else json_object(data, name=self._name)


def json_object(untrusted: bytes, *, name: str) -> dict[str, Any]:
    """Parse one JSON object.

    Raises:
        EngineProtocolError: It is anything else.
    """
    try:
        value = json.loads(untrusted)
    except (ValueError, RecursionError) as error:
        raise broken(name, f"an answer is not JSON ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise broken(name, "an answer is not a JSON object")
    return value


def broken(name: str, why: str) -> EngineProtocolError:
    """Return the error for an engine, by its socket's name, that did not keep its contract."""
    return EngineProtocolError(
        what=f"the engine behind {name} broke its contract", why=why, fix="use the release's own engine"
    )


def too_long(name: str, limit: int) -> AnswerTooLongError:
    """Return the error for an answer of an engine, by its socket's name, that has more than `limit` bytes."""
    error = broken(name, f"an answer is longer than {limit} bytes")
    return AnswerTooLongError(what=error.what, why=error.why, fix="ask for less in one request")


def unreachable(name: str, error: Exception) -> EngineUnavailableError:
    """Return the error for an engine, by its socket's name, that does not answer."""
    return EngineUnavailableError(
        what=f"the engine behind {name} does not answer",
        why=type(error).__name__,
        fix="see `sealift status` and the journal of the engine's unit",
    )


def refused(name: str, status: int, untrusted_body: bytes) -> EngineRefusedError:
    """Return the error for an HTTP status other than 200.

    Only short words are taken over from the body: an engine's message may quote the prompt.
    """
    try:
        error = json_object(untrusted_body, name=name).get("error")
    except EngineProtocolError:
        error = None
    return refusal(name, status, error)


def refusal(name: str, status: int, untrusted_error: object) -> EngineRefusedError:
    """Return the error for what an engine says in `error`: of another status than 200, or where it told 200 before."""
    untrusted = untrusted_error if isinstance(untrusted_error, dict) else {}
    code, param = _word(untrusted.get("code")), _word(untrusted.get("param"))
    return EngineRefusedError(
        what=f"the engine behind {name} refused a request",
        why=f"HTTP {status}{f', {code}' if code else ''}",
        fix="see the journal of the engine's unit",
        http_status=status,
        engine_code=code,
        engine_param=param,
    )


def _word(untrusted: object) -> str:
    return untrusted if isinstance(untrusted, str) and _WORD.fullmatch(untrusted) else ""
