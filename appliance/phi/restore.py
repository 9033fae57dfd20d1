"""Puts identifiers back into an answer that comes in pieces, holding back no more than one token's length.

However an answer is cut, the pieces given out join to the same text as `TokenMap.restore` of the whole: text is
released up to the last bracket that may still open a token, and a token holds no bracket but its own two.
"""

import json
import re
from collections.abc import Callable
from typing import Final

from appliance.phi.tokens import MAX_TOKEN_CHARACTERS, TOKEN, TokenMap

_MAY_BECOME_A_TOKEN: Final = re.compile(r"\[[A-Za-z0-9 _\\-]*")


def as_it_is(value: str) -> str:
    """Put an identifier into running text."""
    return value


def inside_json(value: str) -> str:
    """Put an identifier inside a JSON string, as in a tool call's arguments."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


class Restorer:
    """Restores one stream of text.

    Args:
        tokens: The tokens of the request that is answered; no other's.
        put: How a value is written where its token stood.

    Attributes:
        unknown: How many tokens stood in the text that this request has not; they are left as they are.
    """

    def __init__(self, tokens: TokenMap, *, put: Callable[[str], str] = as_it_is) -> None:
        self._tokens = tokens
        self._put = put
        self._held = ""
        self.unknown = 0

    def feed(self, piece: str) -> str:
        """Take the next piece of the answer and return what is certain so far."""
        text = self._held + piece
        cut = _certain(text)
        self._held = text[cut:]
        return TOKEN.sub(self._value, text[:cut])

    def finish(self) -> str:
        """Return what was held back, as it is: no token was completed."""
        rest, self._held = self._held, ""
        return rest

    def _value(self, match: re.Match[str]) -> str:
        known = self._tokens.value_of(match)
        if known is None:
            self.unknown += 1
            return match[0]
        return self._put(known)


def _certain(text: str) -> int:
    """Return how much of `text` no later piece can turn into a token."""
    opened = text.rfind("[", -MAX_TOKEN_CHARACTERS)
    if opened >= 0 and len(text) - opened < MAX_TOKEN_CHARACTERS and _MAY_BECOME_A_TOKEN.fullmatch(text, opened):
        return opened
    return len(text)
