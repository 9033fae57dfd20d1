"""The lists of frequent names that come with the gateway, one a line; a question mark says that it is a word, too."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

GIVEN: Final = "given-names.txt"
FAMILY: Final = "family-names.txt"


@cache
def listed(name: str) -> Mapping[str, bool]:
    """Return the names of a list, `GIVEN` or `FAMILY`, in small letters, and whether each is nothing else."""
    text = files(__package__).joinpath(name).read_text("utf-8")
    return {line.rstrip("?"): not line.endswith("?") for line in text.splitlines() if line and line[0] != "#"}
