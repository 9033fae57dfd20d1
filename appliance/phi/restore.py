"""Puts identifiers back into an answer that comes in pieces, holding back no more than one token's length.

However an answer is cut, the pieces given out join to the same text as `TokenMap.restore` of the whole: text is
released up to the last bracket that may still open a token, and a token holds no bracket but its own two. Inside texts
of JSON an identifier is written as JSON writes it, so that a quote or a line's end in one leaves JSON that can be read.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Final

from appliance.phi.jsonform import JsonForm
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
        put: How a value is written where its token stood; None for running text that may hold JSON (`JsonForm`).
        behind: What that text goes on from, if it begins in the middle of one.

    Attributes:
        unknown: How many tokens stood in the text that this request has not; they are left as they are.
    """

    def __init__(self, tokens: TokenMap, *, put: Callable[[str], str] | None = as_it_is, behind: str = "") -> None:
        self._tokens = tokens
        self._put = put or as_it_is
        # Followed only where it makes a difference: most identifiers are written alike in both.
        is_followed = put is None and any(inside_json(value) != value for value in tokens.values.values())
        self._form = JsonForm() if is_followed else None
        if self._form is not None:
            self._form.read(behind)
        self._held = ""
        self.unknown = 0

    def feed(self, piece: str) -> str:
        """Take the next piece of the answer and return what is certain so far."""
        text = self._held + piece
        cut = _certain(text)
        self._held = text[cut:]
        if self._form is None:
            return TOKEN.sub(self._value, text[:cut])
        return "".join(self._by_form(text[:cut], self._form))

    def finish(self) -> str:
        """Return what was held back, as it is: no token was completed."""
        rest, self._held = self._held, ""
        return rest

    def _by_form(self, text: str, form: JsonForm) -> Iterator[str]:
        at = 0
        for match in TOKEN.finditer(text):
            before, at = text[at : match.start()], match.end()
            form.read(before)
            value = self._value(match)
            if form.is_in_text and value != match[0]:
                value = inside_json(value)
            yield before + value
            form.read(value)
        form.read(text[at:])
        yield text[at:]

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
