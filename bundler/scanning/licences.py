"""Licences: what may travel without a word, what somebody must have read and accepted, and what is only listed.

A model's licence binds whoever runs it, so one that is not on the list below needs an acceptance in the recipe, with a
reason, which travels in the signed statement. A wheel is carried as its publisher made it; one under a licence that
obliges whoever passes it on, or that carries no text of its licence, is listed for the people who sign.
"""

import re
from collections.abc import Mapping
from typing import Final

PERMISSIVE: Final = frozenset({
    "0BSD", "AFL-3.0", "APACHE-2.0", "BSD-2-CLAUSE", "BSD-3-CLAUSE", "BSL-1.0", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT",
    "MIT-0", "MPL-2.0", "PSF-2.0", "PYTHON-2.0", "UNLICENSE", "ZLIB", "HPND", "CDLA-PERMISSIVE-2.0", "POSTGRESQL",
})  # fmt: skip
"""SPDX identifiers, in capitals, that ask for no more than attribution or for keeping their own files open."""

_SAID_OTHERWISE: Final = {
    "APACHE 2.0": "APACHE-2.0", "APACHE SOFTWARE LICENSE": "APACHE-2.0", "APACHE LICENSE 2.0": "APACHE-2.0",
    "APACHE LICENSE, VERSION 2.0": "APACHE-2.0", "APACHE 2": "APACHE-2.0", "APACHE": "APACHE-2.0",
    "BSD": "BSD-3-CLAUSE", "BSD LICENSE": "BSD-3-CLAUSE", "MIT LICENSE": "MIT", "ISC LICENSE": "ISC",
    "THE MIT LICENSE": "MIT", "PYTHON SOFTWARE FOUNDATION LICENSE": "PSF-2.0", "NEW BSD": "BSD-3-CLAUSE",
    "MOZILLA PUBLIC LICENSE 2.0 (MPL 2.0)": "MPL-2.0", "THE UNLICENSE (UNLICENSE)": "UNLICENSE", "PSF": "PSF-2.0",
}  # fmt: skip
_OPERATOR: Final = re.compile(r"\s+(AND|OR)\s+|[()]|\s*,\s*")


def is_permissive(stated: str) -> bool:
    """Whether a licence, an identifier or an expression of them, asks for nothing that people must accept first.

    Of licences joined by OR one is enough; of those joined by AND (or by a comma) all are needed. Parentheses are not
    weighed: with them, all are needed.
    """
    text = " ".join(stated.upper().split())
    if _one(text):
        return True
    if "(" not in text and " OR " in text and " AND " not in text:
        return any(_one(part) for part in text.split(" OR "))
    parts = [part for part in _OPERATOR.split(text) if part and part not in {"AND", "OR"}]
    return bool(parts) and all(_one(part) for part in parts)


def acceptance(stated: str, accepted: Mapping[str, str]) -> str:
    """Return the reason for which a recipe accepts this very licence, as it is stated; empty where it does not."""
    wanted = _folded(stated)
    return next((reason for name, reason in accepted.items() if _folded(name) == wanted), "")


def is_text(name: str) -> bool:
    """Whether a file's name is that of a licence's text."""
    return re.match(r"(?i)(?:.*/)?(?:licen[cs]e|copying|notice|unlicense)", name) is not None


def _one(text: str) -> bool:
    known = _SAID_OTHERWISE.get(text.strip(), text.strip())
    return known.removesuffix("+") in PERMISSIVE


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
