"""Where an answer ends whose stop texts an engine cannot look for: it writes tokens where identifiers will stand.

A stop text that may be met inside a token, `]` or `1`, would end an answer in the middle of one; one that is part of an
identifier is in no text that the engine writes. So where identifiers were replaced the gateway looks for all of them in
the text that its caller gets, and the engine for those alone that no token holds.
"""

import re
from collections.abc import Sequence
from typing import Final

from appliance.phi.tokens import TOKEN, TokenMap

_BRACKETS: Final = frozenset("[]")
_BETWEEN: Final = re.compile(r"[ _\\-]")
"""What a model may write between the word and the number of a token, or leave out."""


def for_engine(stops: Sequence[str], tokens: TokenMap) -> tuple[str, ...]:
    """Return the stop texts that cannot be met in a part of a token, in whichever way a model writes one.

    Args:
        stops: With tokens where identifiers stood; what is a whole one is met nowhere else.
        tokens: Of the request.
    """
    known = [_bare(f"{word}{number}") for word, number in tokens.values]
    return tuple(stop for stop in stops if not (rest := TOKEN.sub("", stop)) or not _may_be_in_one(rest, known))


def _may_be_in_one(text: str, tokens: Sequence[str]) -> bool:
    return bool(_BRACKETS & {*text}) or any(_bare(text) in token for token in tokens)


def _bare(text: str) -> str:
    return _BETWEEN.sub("", text).casefold()
