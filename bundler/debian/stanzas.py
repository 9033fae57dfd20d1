"""Debian's control format: stanzas of fields. Strict where it decides something, and bounded everywhere."""

import re
from collections.abc import Iterator

from bundler.errors import SourceError

_FIELD = re.compile(r"([!-9;-~]{1,100}):[ \t]*(.*)")


def fields(stanza: str, *, label: str) -> dict[str, str]:
    """Return the fields of one stanza; the lines of a folded one are joined by line feeds.

    Raises:
        SourceError: A line is neither a field nor a continuation, or a field stands there twice.
    """
    found: dict[str, str] = {}
    last = ""
    for line in stanza.strip("\n").split("\n"):  # at no other sign: texts are UTF-8, read byte by byte
        if line[:1] in {" ", "\t"} and last:
            found[last] += "\n" + line[1:]
            continue
        match = _FIELD.fullmatch(line)
        if match is None or match[1] in found:
            raise SourceError(
                what=f"{label} is not in Debian's control format",
                why=f"the line {ascii(line)[:80]}",
                fix="fetch it again from another mirror",
            )
        last = match[1]
        found[last] = match[2].strip()
    return found


def split(text: str) -> Iterator[str]:
    """Yield the stanzas of a text."""
    for stanza in text.split("\n\n"):
        if stripped := stanza.strip("\n"):
            yield stripped
