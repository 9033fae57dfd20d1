"""docs/operator/recipe.md names every key of a recipe and every rule of the scan, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundler.recipe import Recipe
from bundler.scan import RULES

PAGE = (Path(__file__).resolve().parents[2] / "docs/operator/recipe.md").read_text()
OURS = {"folder", "sha256"}  # where the recipe lay and what its bytes were, not keys of the file


def keys(schema: dict[str, Any], whole: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for part in [schema, *schema.get("anyOf", []), *schema.get("oneOf", []), schema.get("items", {})]:
        found = whole["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if found is not schema and ("properties" in found or "oneOf" in found):
            yield from keys(found, whole, prefix)
        for name, inner in found.get("properties", {}).items() if found is schema or "$ref" in part else ():
            nested = set(keys(inner, whole, f"{prefix}{name}."))
            yield from nested or {f"{prefix}{name}"}


def test_every_key_is_documented_and_no_other() -> None:
    schema = Recipe.model_json_schema(by_alias=True)
    documented = set(re.findall(r"^\| `([a-z0-9_.-]+)` \|", PAGE.partition("## What the scan")[0], re.MULTILINE))

    assert documented == set(keys(schema, schema)) - OURS


def test_every_rule_of_the_scan_is_documented_and_no_other() -> None:
    section = PAGE.partition("## What the scan")[2]

    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == set(RULES)
