"""Server-sent events, framed so that no text of a model can break out of them.

One event is one `data:` line of ASCII JSON: line ends of any kind, U+2028 and whole `data:` lines in an answer are
escaped characters inside a string.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

DONE: Final = b"data: [DONE]\n\n"
HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}
MIMETYPE: Final = "text/event-stream"


def event(value: Mapping[str, Any]) -> bytes:
    """Return one event."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n\n"
