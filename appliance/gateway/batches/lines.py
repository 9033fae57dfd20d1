"""The lines of a batch's input, read strictly before anything is asked: one JSON object of OpenAI's shape in each."""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from appliance.gateway.body import read_object
from appliance.gateway.problems import Problem

ENDPOINTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
MOST_LINES: Final = 5000
_LINE: Final = re.compile(rb"^[^\n]*\S", re.MULTILINE)
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
    """Return the lines of a file, each with its end and the empty lines about it: joined, they are the file."""
    starts = [one.start() for one in _LINE.finditer(untrusted)]
    return [untrusted[start:end] for start, end in pairwise([0, *starts[1:], len(untrusted)])] if starts else []


def joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the file of these pieces, piece by piece; those that a release of before kept have no ends of lines."""
    before: bytes | None = None
    for one in parts:
        if before is not None:
            yield before if before.endswith(b"\n") else before + b"\n"
        before = one
    yield before or b""


def read(untrusted: bytes, *, endpoint: str) -> Line:
    """Return one line.

    Raises:
        Problem: It is none.
    """
    # Some editors mark a file as UTF-8 by its first three bytes.
    value = read_object(untrusted.strip().removeprefix(BOM_UTF8))
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


def custom_id_of(untrusted: bytes) -> str:
    """Return the `custom_id` of a line that a release of before took, and this one may read no more; "" where none is.

    Whoever asked finds the line's result by it.
    """
    try:
        value = json.loads(untrusted.strip().removeprefix(BOM_UTF8))
    except (ValueError, RecursionError):
        return ""
    found = value.get("custom_id") if isinstance(value, dict) else None
    return found if isinstance(found, str) and _CUSTOM_ID.fullmatch(found) else ""


def faults_of(lines: Sequence[bytes], *, endpoint: str, most: int = 20) -> list[Fault]:
    """Return what is wrong with a batch's input, at most so many; nothing for a good one."""
    if not lines:
        return [Fault(line=0, code="empty_file", message="The file has no lines.")]
    if len(lines) > MOST_LINES:
        return [Fault(line=0, code="too_many_lines", message=f"At most {MOST_LINES} lines.")]
    found: list[Fault] = []
    seen: set[str] = set()
    begin = 1
    for raw in lines:
        number = begin + raw[: len(raw) - len(raw.lstrip())].count(b"\n")
        begin += max(raw.count(b"\n"), 1)
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
