"""Turns what is wrong with a recipe into one error that names the dotted key and, where it is certain, the line."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from pydantic import ValidationError

from bundler.errors import RecipeError
from bundler.recipe_lines import Key, line_of

FIX: Final = "see the commented recipe in examples/demo.toml"
_STRICT: Final = "recipes are checked strictly"
_SOURCE_KINDS: Final = frozenset({"pypi-package", "file", "folder", "http", "huggingface"})
# Words under which patient data was tried to be carried in; it is imported inside the facility, never on this side.
_PATIENT_WORDS: Final = frozenset(
    {"annotated", "annotations", "census", "patient", "patients", "notes", "phi", "mrn", "mrns", "roster"}
)
_PATIENT_PAIRS: Final = frozenset({("site", "evals"), ("site", "eval"), ("own", "evals"), ("clinical", "note")})
_PATIENT_WHY: Final = "census lists, annotated notes and a site's own evals are imported inside the facility"
_PATIENT_FIX: Final = "remove it here; people of the site import the file on the appliance"


class FaultError(Exception):
    """Something that tables of a recipe say about each other is wrong; `path` is the dotted key in its parts."""

    def __init__(self, path: Sequence[Key], message: str, *, why: str = _STRICT, fix: str = FIX) -> None:
        super().__init__(message)
        self.path, self.message, self.why, self.fix = tuple(path), message, why, fix


def of_validation(error: ValidationError, text: str) -> RecipeError:
    """Return the error of the first fault that pydantic found."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    # Discriminated unions put their tag into the location; the recipe has no such key.
    path = [part for part in first["loc"] if part not in _SOURCE_KINDS]
    if first["type"] == "extra_forbidden" and means_patients(str(path[-1])):
        return _error(path, text, "patient data does not start on the connected side", _PATIENT_WHY, _PATIENT_FIX)
    if first["type"] == "extra_forbidden":
        return _error(path, text, "not a key of a recipe", "unknown keys are refused", FIX)
    return _error(path, text, first["msg"].removeprefix("Value error, "), _STRICT, FIX)


def of_fault(fault: FaultError, text: str) -> RecipeError:
    """Return the error of a fault that the tables show together."""
    return _error(fault.path, text, fault.message, fault.why, fault.fix)


def patient_file(path: Sequence[Key], name: str) -> FaultError:
    """Return the fault of a file whose name says that it holds patient data."""
    shown = name.rpartition("/")[2]
    return FaultError(
        path,
        f"{_printable(shown)} is named like patient data, which does not start on the connected side",
        why=_PATIENT_WHY,
        fix=_PATIENT_FIX,
    )


def means_patients(name: str) -> bool:
    """Tell whether a key or a file name says that it is about patients: a word of it, or two together."""
    words = re.split(r"[^a-z]+", name.lower())
    return not _PATIENT_WORDS.isdisjoint(words) or any(pair in _PATIENT_PAIRS for pair in pairwise(words))


def _error(path: Sequence[Key], text: str, message: str, why: str, fix: str) -> RecipeError:
    written = _as_written(path, text)
    key = ".".join(_printable(part) for part in written) or "the recipe"
    line = line_of(text, written) if written else None
    return RecipeError(what=f"{key}: {message}", why=why if line is None else f"line {line}: {why}", fix=fix)


def _as_written(path: Sequence[Key], text: str) -> list[Key]:
    """Name tables as the recipe does: `[[target]]` and `[[targets]]` are the same."""
    parts = list(path)
    if parts and parts[0] == "targets" and re.search(r"^\s*\[\[\s*target\s*\]\]", text, re.MULTILINE):
        parts[0] = "target"
    return parts


def _printable(part: Key) -> str:
    text = str(part)[:80]
    return text if text.isprintable() else ascii(text)
