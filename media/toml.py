"""Reads TOML that people wrote (TOML 1.0): site files, answers, policies, recipes."""

import tomllib
from codecs import BOM_UTF8
from typing import Any


def read(untrusted: bytes) -> dict[str, Any]:
    """Return what a file says.

    Raises:
        ValueError: It is no UTF-8 or no TOML, or has a number of thousands of digits; or it begins with a byte order
            mark, which TOML has not, and which nobody sees.
        RecursionError: It is nested deeper than anything real.
    """
    if untrusted.startswith(BOM_UTF8):
        message = "it begins with a byte order mark: save it as UTF-8 without one"
        raise ValueError(message)
    return tomllib.loads(untrusted.decode())
