"""Tells, while an answer comes, whether its next letter stands in a text of JSON: by the answer's form alone.

A model writes JSON into a plain answer, too: as all of it, in a block of code, in the middle of a line. What is put
into a text there has to be written as JSON writes it, or nobody can read it as JSON; in prose it must not be. So what
begins as an object or a list is followed letter by letter, for as long as JSON could go on so. Where it could not, all
that follows is prose again, until the next brace or bracket. Nothing is looked at ahead, so an answer that comes in
pieces is read as one that comes whole.
"""

import re
from typing import Final

_BEGIN: Final = re.compile(r"[{\[]")
_BLANK: Final = re.compile(r"[ \t\r\n]*")
_IN_TEXT: Final = re.compile(r'[^"\\\x00-\x1f]*')
_IN_WORD: Final = re.compile(r"[-+.0-9A-Za-z]*")
_ESCAPED: Final = frozenset('"\\/bfnrtu')
_END: Final = {"{": "}", "[": "]"}
# What may stand where: letters that begin a value are those of numbers, `true`, `false` and `null`, too.
_VALUE: Final = frozenset('"{[-0123456789tfn')
_NAME: Final = frozenset('"')
_COLON: Final = frozenset(":")


class JsonForm:
    """Follows one answer; what is read is told piece by piece."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._may: frozenset[str] = frozenset()
        self._is_name = self._is_text = self._is_escape = self._is_word = False

    @property
    def is_in_text(self) -> bool:
        """Whether the next letter stands in a text of JSON."""
        return self._is_text and not self._is_escape

    def read(self, text: str) -> None:
        """Follow what comes next."""
        at = 0
        while at < len(text):
            if self._is_text:
                at = self._in_text(text, at)
            elif self._is_word:
                at = _end(_IN_WORD, text, at)
                self._is_word = at == len(text)
            elif not self._open:
                begin = _BEGIN.search(text, at)
                at = len(text) if begin is None else begin.start()
                if begin is not None:
                    at = self._begin(text, at)
            else:
                at = _end(_BLANK, text, at)
                if at < len(text):
                    at = self._between(text, at)

    def _in_text(self, text: str, at: int) -> int:
        if self._is_escape:
            self._is_escape = False
            return at + 1 if text[at] in _ESCAPED else self._prose(at)
        at = _end(_IN_TEXT, text, at)
        if at == len(text):
            return at
        if text[at] == "\\":
            self._is_escape = True
        elif text[at] == '"':
            self._is_text = False
            self._may = _COLON if self._is_name else self._behind()
        else:  # a line's end, say, which no text of JSON holds
            return self._prose(at)
        return at + 1

    def _between(self, text: str, at: int) -> int:
        letter = text[at]
        if letter not in self._may:
            return self._prose(at)
        if letter in "{[":
            return self._begin(text, at)
        if letter == '"':
            self._is_text, self._is_name = True, self._may is not _VALUE and self._open[-1] == "{"
        elif letter in "}]":
            self._open.pop()
            self._may = self._behind()
        elif letter == ",":
            self._may = _NAME if self._open[-1] == "{" else _VALUE
        elif letter == ":":
            self._may = _VALUE
        else:
            self._is_word, self._may = True, self._behind()
        return at + 1

    def _begin(self, text: str, at: int) -> int:
        self._open.append(text[at])
        self._may = (_NAME if text[at] == "{" else _VALUE) | {_END[text[at]]}
        return at + 1

    def _behind(self) -> frozenset[str]:
        """Return what may stand behind a value; where the last bracket was closed, prose does."""
        return frozenset((",", _END[self._open[-1]])) if self._open else frozenset()

    def _prose(self, at: int) -> int:
        """Take it for no JSON after all; what stands there may begin some."""
        self._open.clear()
        self._is_text = self._is_escape = self._is_word = False
        return at


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return at if match is None else match.end()
