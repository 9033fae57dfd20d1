"""Profiles to put into a recipe: a recipe takes what is printed, vLLM's ranges hold, and the handbook says the same."""

import tomllib
from pathlib import Path

import pytest

from bundler.assessing.profiles import PROFILES, Profile, named
from bundler.recipe_runtime import RuntimeSection
from media.errors import UsageError
from media.vllmprofile import faults

HANDBOOK = Path(__file__).parents[4] / "docs/operator/models.md"


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_a_recipe_takes_what_is_printed_and_it_lies_in_vllms_ranges(profile: Profile) -> None:
    printed = tomllib.loads(profile.to_toml())["models"]["runtime"]

    read = RuntimeSection.model_validate(printed)

    assert read.vllm is not None
    assert read.vllm.settings == profile.vllm
    assert (read.n_ctx, read.n_batch, read.n_seq_max) == (profile.n_ctx, profile.n_batch, profile.n_seq_max)
    assert not list(faults(profile.vllm, n_ctx=read.n_ctx, n_batch=read.n_batch, n_seq_max=read.n_seq_max))
    assert read.n_seq_max >= 128  # C16, in production


def test_the_handbook_shows_each_as_it_is() -> None:
    rows = [line.split("|")[1:-1] for line in HANDBOOK.read_text().splitlines() if line.startswith("| `")]
    shown = {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in rows if len(cells) == 7}

    for profile in PROFILES:
        chosen = profile.to_toml().partition("[models.runtime.vllm]\n")[2].splitlines()
        numbers = [str(number) for number in (profile.n_ctx, profile.n_batch, profile.n_seq_max)]
        said = shown[profile.name]
        assert said[:5] == [profile.model, profile.gpus, *numbers]
        assert sorted(said[5].split(", ")) == sorted(f"`{line}`" for line in chosen)


def test_one_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError) as caught:
        named("7b")

    assert "70b-awq, 70b-bf16" in caught.value.why
