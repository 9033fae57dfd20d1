"""The lines of a batch's input, read strictly before anything is asked: one JSON object of OpenAI's shape in each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.gateway.body import read_object
from appliance.gateway.problems import Problem

ENDPOINTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
MOST_LINES: Final = 5000
_CUSTOM_ID: Final = re.compile(r"[ -~]{1,64}")
_MEMBERS: Final = frozenset({"custom_id", "method", "url", "body"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One request of a batch."""

    custom_id: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a line, counted from 1; none of its text."""

    line: int
    code: str
    message: str


def pieces(untrusted: bytes) -> list[bytes]:
    """Return the lines of a file that are not empty."""
    return [one for one in untrusted.split(b"\n") if one.strip()]


def read(untrusted: bytes, *, endpoint: str) -> Line:
    """Return one line.

    Raises:
        Problem: It is none.
    """
    value = read_object(untrusted)
    if set(value) != _MEMBERS:
        raise Problem(400, "invalid_line", "A line has custom_id, method, url and body, and nothing else.")
    custom_id, body = value["custom_id"], value["body"]
    if not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
        raise Problem(400, "invalid_line", "custom_id is a text of 1 to 64 ASCII characters.")
    if value["method"] != "POST" or value["url"] != endpoint:
        raise Problem(400, "mismatched_url", "method is POST, and url the endpoint of the batch.")
    if not isinstance(body, dict) or body.get("stream"):
        raise Problem(400, "invalid_line", "body is an object, and is not streamed.")
    return Line(custom_id=custom_id, body=body)


def faults_of(lines: Sequence[bytes], *, endpoint: str, most: int = 20) -> list[Fault]:
    """Return what is wrong with a batch's input, at most so many; nothing for a good one."""
    if not lines:
        return [Fault(line=0, code="empty_file", message="The file has no lines.")]
    if len(lines) > MOST_LINES:
        return [Fault(line=0, code="too_many_lines", message=f"At most {MOST_LINES} lines.")]
    found: list[Fault] = []
    seen: set[str] = set()
    for number, raw in enumerate(lines, 1):
        try:
            custom_id = read(raw, endpoint=endpoint).custom_id
        except Problem as problem:
            found.append(Fault(line=number, code=problem.code, message=problem.message))
        else:
            if custom_id in seen:
                found.append(Fault(line=number, code="duplicate_custom_id", message="This custom_id came before."))
            seen.add(custom_id)
        if len(found) >= most:
            break
    return found
