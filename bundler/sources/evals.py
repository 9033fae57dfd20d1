"""Task sets that a model is judged by: JSON Lines beside the recipe, checked line by line before they travel.

The first line is the header `{"format":1,"name":…,"floor":"0.50"}`; each further line is one item with `id`, `kind`
(`multiple-choice` or `contains`), `prompt` and `answer`, and for the first kind `choices`. They are public facts: a
site's own tasks, which may hold patient data, are imported inside the facility.
"""

import re
from pathlib import PurePosixPath
from typing import Any, Final

from bundler.artifact import Artifact, Component, Gathered
from bundler.errors import SourceError
from bundler.recipe import ModelSection, Recipe
from media.canonical import exact_keys, integer, loads, text
from media.errors import MediaError

_MAX_BYTES: Final = 64 * 2**20
_MAX_ITEM: Final = 256 * 1024
_MAX_TEXT: Final = 32_000
_FLOOR: Final = re.compile(r"(0(\.[0-9]{1,4})?|1(\.0{1,4})?)")
_MAX_CHOICES: Final = 26


def target_of(path: str) -> str:
    """Return where an eval file of the recipe lies on the medium."""
    return f"data/evals/{PurePosixPath(path).name}"


def gather(recipe: Recipe, models: tuple[ModelSection, ...]) -> Gathered:
    """Return every eval file that the models name, once.

    Raises:
        SourceError: A file cannot be read, breaks the format, or two have one name.
    """
    found: dict[str, tuple[str, Artifact]] = {}
    for path in [path for model in models for path in model.evals]:
        target = target_of(path)
        if target in found and found[target][0] != path:
            raise SourceError(
                what=f"two eval files are called {PurePosixPath(path).name}", why="", fix="rename one of them"
            )
        try:
            content = recipe.beside(path).read_bytes()
        except OSError as error:
            raise SourceError(
                what=f"{path} cannot be read", why=error.strerror or "", fix="the path is relative to the recipe"
            ) from error
        name = require_tasks(content, label=path)
        found[target] = (
            path,
            Artifact.of_bytes(content, target=target, kind="eval", component=Component(name=name)),
        )
    return Gathered(artifacts=tuple(artifact for _, artifact in found.values()))


def require_tasks(untrusted: bytes, *, label: str) -> str:
    """Check a task set and return its name.

    Raises:
        SourceError: A line breaks the format; `what` names it by number.
    """
    if len(untrusted) > _MAX_BYTES:
        raise SourceError(what=f"{label} is too large", why=f"the limit is {_MAX_BYTES} bytes", fix="split it")
    lines = untrusted.splitlines()
    name = ""
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        try:
            value = loads(line, max_bytes=_MAX_ITEM)
            if number == 1:
                name = _header(value)
            else:
                seen.add(_item(value, seen))
        except (MediaError, SourceError) as error:
            raise SourceError(
                what=f"{label}, line {number}: {error.what}", why=error.why, fix="see examples/evals/demo-tasks.jsonl"
            ) from error
    if not seen:
        raise SourceError(what=f"{label} holds no task", why="a header and at least one item", fix="see examples/evals")
    return name


def _header(value: Any) -> str:
    exact_keys(value, ("format", "name", "floor"), what="the header")
    integer(value["format"], "format", minimum=1, maximum=1)
    if not isinstance(value["floor"], str) or not _FLOOR.fullmatch(value["floor"]):
        raise SourceError(what="the header: floor", why="expected a decimal text from 0 to 1", fix='e.g. "0.50"')
    return text(value["name"], "name", most=63)


def _item(value: Any, seen: set[str]) -> str:
    exact_keys(value, ("id", "kind", "prompt", "answer"), ("choices",), "the item")
    identity = text(value["id"], "id", most=63)
    if identity in seen:
        raise SourceError(what=f"the id {identity} is there twice", why="", fix="give each item its own")
    answer = text(value["answer"], "answer", most=_MAX_TEXT, lines=True)
    text(value["prompt"], "prompt", most=_MAX_TEXT, lines=True)
    choices = value.get("choices")
    if value["kind"] == "multiple-choice":
        if not isinstance(choices, list) or not 2 <= len(choices) <= _MAX_CHOICES or choices.count(answer) != 1:
            raise SourceError(
                what=f"{identity}: choices", why="expected 2 to 26 texts, one of them the answer", fix="correct it"
            )
        for choice in choices:
            text(choice, "choices", most=_MAX_TEXT, lines=True)
    elif value["kind"] != "contains" or choices is not None:
        raise SourceError(
            what=f"{identity}: kind", why="expected multiple-choice, or contains without choices", fix="correct it"
        )
    return identity
