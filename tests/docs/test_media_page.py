"""What the page on media says about sizes is what the planner and the writers do."""

import re
from pathlib import Path

import pytest

from bundler.images.kinds import KINDS
from bundler.images.stage import Tree
from bundler.mediasizes import DISCS, room_of
from media import layout
from media.release import Kind, Target
from media.volumeplan import plan

PAGE = (Path(__file__).resolve().parents[2] / "docs/operator/media.md").read_text("utf-8")
TAGS = 4 * 2**20
"""More than metadata/, attest/ and check/ take on a volume."""
MODELS = {"codellama-34b, Q4": 19, "deepseek-coder-33b, FP16": 67, "llama-3.1-70b": 140, "qwen-2.5-72b": 145}


def table(heading: str) -> list[list[str]]:
    lines = PAGE[PAGE.index(heading) :].splitlines()
    rows = [line for line in lines if line.startswith("|")]
    end = next((number for number, line in enumerate(lines) if line.startswith("## ") and number), len(lines))
    rows = [line for line in lines[:end] if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if not set(row) <= set("|- ")]


def volumes_for(length: int, capacity: int) -> int:
    blocks = tuple("0" * 64 for _ in range(-(-length // layout.BLOCK_BYTES)))
    target = Target(path="data/models/m/w.gguf", length=length, sha256="0" * 64, kind=Kind.WEIGHTS, blocks=blocks)
    return len(plan([target], [capacity - TAGS] * 99, release="r", serial=1).volumes)


def test_the_number_of_media_is_what_the_planner_gives() -> None:
    head, *rows = table("## How many")

    assert [row[0] for row in rows] == [f"{name} ({size} GB)" for name, size in MODELS.items()]
    for row, size in zip(rows, MODELS.values(), strict=True):
        wanted = [str(volumes_for(size * 10**9, room_of(name.strip("`")))) for name in head[1:]]
        assert row[1:] == wanted, (row[0], wanted)


def test_every_format_is_described_and_no_other() -> None:
    named = [re.findall(r"`([a-z0-9]+)`", row[0])[0] for row in table("## Which format")[1:]]

    assert named == list(KINDS)


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"exfat"}))
def test_a_full_disc_or_stick_has_room_for_what_is_planned(name: str, tmp_path: Path) -> None:
    """A payload that was planned onto 57.6 GB of a stick makes an image that is less than the stick's 64 GB."""
    parts = {f"release/data/models/m/w.gguf.{n:06d}": layout.PART_BYTES for n in range(14)}

    assert KINDS[name].size(Tree(folder=tmp_path, sizes=parts, sha256={})) < sum(parts.values()) * 1.03


@pytest.mark.parametrize("disc", sorted(DISCS))
@pytest.mark.parametrize("name", ["iso9660", "udf"])
def test_a_volume_that_was_planned_for_a_disc_fits_the_disc(name: str, disc: str, tmp_path: Path) -> None:
    left, parts = room_of(disc), {f"release/data/wheels/w{n:05d}.whl": 100 for n in range(2000)}
    left -= len(parts) * 4096
    while left > 0:
        parts[f"release/data/models/m/w.gguf.{len(parts):06d}"] = min(left, layout.PART_BYTES)
        left -= layout.PART_BYTES

    assert KINDS[name].size(Tree(folder=tmp_path, sizes=parts, sha256={})) <= DISCS[disc]
