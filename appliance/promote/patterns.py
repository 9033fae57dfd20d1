"""Patterns of task sets: Python's regular expressions without what makes a match take for ever.

They come from the site's own people, so this guards against accidents: a repeated group that itself repeats or
branches, and references back, are refused when a set is read.
"""

import re
import warnings
from typing import Final

from media.errors import MalformedError

_MAX_PATTERN: Final = 500
_REPEATS: Final = frozenset("*+{")
_OPENINGS: Final = ("(?:", "(?i:")


def safe_pattern(untrusted: str) -> re.Pattern[str]:
    """Return the compiled pattern.

    Raises:
        MalformedError: It is no regular expression, too long, or may take for ever.
    """
    if not untrusted or len(untrusted) > _MAX_PATTERN:
        raise _refused(f"it has {len(untrusted)} characters, the limit is {_MAX_PATTERN}")
    _require_bounded(untrusted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what may mean something else in a later Python is refused today
            return re.compile(untrusted)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise _refused(str(error)[:80]) from error


def _require_bounded(pattern: str) -> None:
    groups: list[bool] = [False]  # whether the group that is open repeats or branches
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "\\":
            if pattern[at + 1 : at + 2].isdigit() and pattern[at + 1] != "0":
                raise _refused("it refers back to a group")
            at += 2
            continue
        if letter == "[":
            at = _after_class(pattern, at)
            continue
        if letter == "(":
            if pattern[at + 1 : at + 2] == "?" and not pattern.startswith(_OPENINGS, at):
                raise _refused("of the groups that begin with (? only (?: and (?i: are known")
            groups.append(False)
            at += next((len(one) for one in _OPENINGS if pattern.startswith(one, at)), 1)
            continue
        if letter == ")" and len(groups) > 1:
            inner = groups.pop()
            if inner and pattern[at + 1 : at + 2] in _REPEATS:
                raise _refused("a group that repeats or branches is repeated")
            groups[-1] = groups[-1] or inner
        elif letter in _REPEATS or letter == "|":
            groups[-1] = True
        at += 1


def _after_class(pattern: str, at: int) -> int:
    at += 2 if pattern[at + 1 : at + 2] == "^" else 1
    at += 1 if pattern[at : at + 1] == "]" else 0
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1


def _refused(why: str) -> MalformedError:
    return MalformedError(what="a pattern is refused", why=why, fix="write it simpler")
