"""The order of Debian's version numbers, as deb-version(7) describes it."""

import re
from functools import total_ordering
from typing import Final

_NON_DIGITS: Final = re.compile(r"[^0-9]*")
_DIGITS: Final = re.compile(r"[0-9]*")


@total_ordering
class DebianVersion:
    """One version; compares like dpkg does. `DebianVersion("1.0~rc1") < DebianVersion("1.0")`."""

    __slots__ = ("epoch", "revision", "text", "upstream")

    def __init__(self, text: str) -> None:
        """Take a version apart.

        Args:
            text: Such as "2:1.0~rc1-3+deb12u1".
        """
        self.text = text
        epoch, colon, rest = text.partition(":")
        has_epoch = bool(colon) and epoch.isascii() and epoch.isdigit() and len(epoch) < 10
        self.epoch = int(epoch) if has_epoch else 0
        whole = rest if has_epoch else text
        upstream, dash, revision = whole.rpartition("-")
        self.upstream = upstream if dash else whole
        self.revision = revision if dash else ""

    def __eq__(self, other: object) -> bool:
        """Whether dpkg takes both for the same."""
        return isinstance(other, DebianVersion) and self._compared(other) == 0

    def __lt__(self, other: "DebianVersion") -> bool:
        """Whether dpkg takes the other for newer."""
        return self._compared(other) < 0

    def __hash__(self) -> int:
        """Equal versions may be spelled differently, so only what cannot differ is hashed."""
        return hash(self.epoch)

    def __repr__(self) -> str:
        """Show the text."""
        return f"DebianVersion({self.text!r})"

    def _compared(self, other: "DebianVersion") -> int:
        if self.epoch != other.epoch:
            return -1 if self.epoch < other.epoch else 1
        return _compared(self.upstream, other.upstream) or _compared(self.revision, other.revision)


def _compared(left: str, right: str) -> int:
    """Compare by turns a run without digits, then a number, until one side differs."""
    while left or right:
        first, left = _taken(_NON_DIGITS, left)
        second, right = _taken(_NON_DIGITS, right)
        for place in range(max(len(first), len(second))):
            if difference := _weight(first, place) - _weight(second, place):
                return difference
        first, left = _taken(_DIGITS, left)
        second, right = _taken(_DIGITS, right)
        if difference := _number(first, second):
            return difference
    return 0


def _number(left: str, right: str) -> int:
    """Compare two numbers of any length."""
    first, second = left.lstrip("0"), right.lstrip("0")
    if len(first) != len(second):
        return len(first) - len(second)
    return (first > second) - (first < second)


def _taken(pattern: re.Pattern[str], text: str) -> tuple[str, str]:
    """Return the run at the start of a text, which may be empty, and the rest."""
    found = pattern.match(text)
    length = found.end() if found else 0
    return text[:length], text[length:]


def _weight(text: str, place: int) -> int:
    """Return a character's place in the order: a tilde sorts before the end, letters before all others."""
    if place >= len(text):
        return 0
    character = text[place]
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
