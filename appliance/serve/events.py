"""Reads server-sent events of an engine: `data:` lines of one JSON object each, then `data: [DONE]`.

Bytes may be cut anywhere, also inside a UTF-8 sequence, so lines are split before they are decoded. Comments, other
fields and blank lines are skipped, as the standard says.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from appliance.errors import EngineProtocolError

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024

DONE: Final[dict[str, Any]] = {}
"""What `EventReader.feed` yields for `[DONE]`; compare with ``is``."""


class EventReader:
    """Joins pieces of a stream to events.

    Args:
        name: The engine's socket name, for errors.
    """

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._rest = b""

    def feed(self, untrusted: bytes) -> Iterator[dict[str, Any]]:
        """Yield each event that the new bytes complete.

        Raises:
            EngineProtocolError: A line is too long or holds no JSON object.
        """
        *lines, self._rest = (self._rest + untrusted).split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise _broken(self._name, f"an event is longer than {MAX_EVENT_BYTES} bytes")
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
        raise _broken(name, f"an answer is not JSON ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise _broken(name, "an answer is not a JSON object")
    return value


def _broken(name: str, why: str) -> EngineProtocolError:
    return EngineProtocolError(
        what=f"the engine behind {name} broke its contract", why=why, fix="use the release's own engine"
    )
