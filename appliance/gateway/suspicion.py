"""Texts that look like an attack on the model or on what shows its answers: found, and flagged or refused by policy.

The patterns are those of requirements E20 and E21. They are plain and easy to walk around: they show who tries, they
do not protect. What protects is that no text of a caller becomes a special token, and what a version does with planted
instructions is tried before it is approved. `A.*B.*C` on one line is looked for as its parts in their order, which
finds the same and takes time in proportion to the text, whatever the text is.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from appliance.gateway.parameters import Asked
from appliance.gateway.problems import Problem


class Suspicion(StrEnum):
    """What a site does about a kind of suspicious text."""

    OFF = "off"
    FLAG = "flag"
    BLOCK = "block"


_SAID: Final = {
    "ignore-instructions": re.compile(r"ignore (previous|above|all) (instructions|directions|prompts)", re.IGNORECASE),
    "you-are-now": re.compile(r"you are now", re.IGNORECASE),
    "new-instructions": re.compile(r"new (instructions|task|role)", re.IGNORECASE),
    "chat-markup": re.compile(r"<\|im_start\|>", re.IGNORECASE),
    "forget-everything": re.compile(r"forget (everything|all|your)", re.IGNORECASE),
}
_IN_ORDER: Final = {
    "disregard-instructions": ("disregard", "instructions"),
    "system-markup": ("system:", "<|", "|>"),
    "instead-do": ("instead", "do", "following"),
}
_CODE: Final = {
    "script-element": "<script>",
    "script-address": "javascript:",
    "error-handler": "onerror=",
    "braces-expansion": "${",
    "command-expansion": "$(",
    "backtick": "`",
    "eval-call": "eval(",
    "exec-call": "exec(",
}
INJECTION: Final = (*_SAID, *_IN_ORDER)
CODE: Final = tuple(_CODE)
_FROM_OUTSIDE: Final = frozenset({"user", "tool"})


def require_unsuspicious(asked: Asked, *, injection: Suspicion, code: Suspicion) -> tuple[str, ...]:
    """Return the names of the rules that a request matches and that its site only flags.

    Args:
        asked: The request; what its users and tools said is looked at.
        injection: About orders to the model.
        code: About what a program might run.

    Raises:
        Problem: It matches one that the site blocks.
    """
    found: list[str] = []
    for policy, names in ((injection, _injection), (code, _code)):
        if policy is Suspicion.OFF:
            continue
        matched = names(_texts(asked))
        if matched and policy is Suspicion.BLOCK:
            raise Problem(400, "suspicious_request", f"The request matches {', '.join(matched)}; this site refuses it.")
        found += matched
    return tuple(found)


def _texts(asked: Asked) -> list[str]:
    said = [message.content or "" for message in asked.messages if message.role in _FROM_OUTSIDE]
    return [*said, *asked.prompts]


def _injection(texts: Iterable[str]) -> list[str]:
    found = set()
    for text in texts:
        found |= {name for name, pattern in _SAID.items() if pattern.search(text)}
        lowered = text.lower()
        found |= {
            name
            for name, parts in _IN_ORDER.items()
            if all(part in lowered for part in parts) and any(_has(line, parts) for line in lowered.split("\n"))
        }
    return [name for name in INJECTION if name in found]


def _has(line: str, parts: tuple[str, ...]) -> bool:
    at = 0
    for part in parts:
        at = line.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def _code(texts: Iterable[str]) -> list[str]:
    lowered = [text.lower() for text in texts]
    return [name for name, part in _CODE.items() if any(part in text for text in lowered)]
