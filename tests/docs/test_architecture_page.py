"""The layers that the page draws are those that the build demands."""

import re
import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_REMARKS = 46  # the column where it says what a layer is for


def demanded() -> list[set[str]]:
    """Return the layers of the contract, the uppermost first."""
    contracts = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = (one["layers"] for one in contracts if one["type"] == "layers" and "actions" in one["layers"])
    return [set(layer.split(" | ")) for layer in found]


def drawn() -> list[set[str]]:
    """Return what the page draws: a layer a line, and the lowest ones joined by arrows."""
    page = (_ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (block,) = (one for one in re.findall(r"```\n(.*?)```", page, re.DOTALL) if one.startswith("cli "))
    upper, _, lowest = block.partition("\nkeys →")
    names = [set(line[:_REMARKS].split()) for line in upper.splitlines()]
    return [*names, *(set(re.findall(r"[a-z]+", part)) for part in f"keys →{lowest}".split("→"))]


def test_the_page_draws_the_layers_of_the_contract() -> None:
    assert drawn() == demanded()
