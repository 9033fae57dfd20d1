"""Own machines or a provider: what decides alone, what is weighed, and how facts are read."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bundler.assessing.deciding import Facts, decide, read_facts
from bundler.cli.main import create_app
from media.errors import SealiftError, UsageError

PUBLIC = 'format = 1\ndata = "public"\n'


def _side(text: str) -> tuple[str, bool]:
    found = decide(read_facts(text))
    return found.side, found.is_forced


@pytest.mark.parametrize(
    "text",
    [
        'format = 1\ndata = "health"\n',
        f'{PUBLIC}regulations = ["ITAR"]\n',
        f'{PUBLIC}place = "air-gapped"\n',
        f'{PUBLIC}place = "edge"\n',
        f'{PUBLIC}place = "on-premises"\nskill = "none"\nuse = "prototype"\nkeeps_it_running = "provider"\n',
    ],
)
def test_data_law_and_place_decide_alone(text: str) -> None:
    assert _side(text) == ("own", True)


def test_a_prototype_on_public_data_goes_to_a_provider() -> None:
    text = f'{PUBLIC}use = "prototype"\ntokens_per_day = 5000\nskill = "none"\nmodels_change_often = true\n'
    assert _side(text) == ("provider", False)


def test_a_million_tokens_a_day_of_proprietary_data_stay() -> None:
    text = 'format = 1\ndata = "proprietary"\nsecrets = ["patents"]\ntokens_per_day = 1_500_000\nskill = "good"\n'
    assert _side(text) == ("own", False)


def test_a_large_bill_speaks_for_own_machines_even_where_use_is_seasonal() -> None:
    reasons = decide(read_facts(f'{PUBLIC}use = "seasonal"\nprovider_dollars_per_month = 60000\n')).reasons
    assert next(one.side for one in reasons if one.factor == "cost at scale") == "own"


@pytest.mark.parametrize(("rate", "side"), [(100.5, "own"), (100, "provider")])
def test_a_hundred_requests_a_second_speak_for_own_machines_however_few_their_tokens(rate: float, side: str) -> None:
    text = f"{PUBLIC}tokens_per_day = 5000\nrequests_per_second = {rate}\n"

    assert next(one.side for one in decide(read_facts(text)).reasons if one.factor == "cost at scale") == side


def _of(text: str, factor: str) -> str:
    return next(one.side for one in decide(read_facts(text)).reasons if one.factor == factor)


@pytest.mark.parametrize(
    ("said", "factor", "side"),
    [
        *((f'changes = ["{one}"]', "customization", "own") for one in ("fine-tunes", "quantization", "merging")),
        ('changes = ["experimental"]\nmodels_change_often = true', "customization", "own"),
        ("models_change_often = true", "customization", "provider"),
        ("several_providers = true", "customization", "provider"),
        ("longest_answer_ms = 49", "latency", "own"),
        ("longest_answer_ms = 50", "latency", "own"),
        ("longest_answer_ms = 500", "latency", "either"),
        ('skill = "good"', "expertise", "own"),
        ('keeps_it_running = "provider"', "uptime", "provider"),
    ],
)
def test_each_trigger_speaks_for_its_side(said: str, factor: str, side: str) -> None:
    assert _of(f"{PUBLIC}{said}\n", factor) == side


def test_less_than_50_milliseconds_want_a_network_of_ones_own() -> None:
    reasons = [decide(read_facts(f"{PUBLIC}longest_answer_ms = {one}\n")).reasons for one in (49, 50)]
    under, over = (next(one.why for one in found if one.factor == "latency") for found in reasons)

    assert "under 50 ms" in under
    assert "under 50 ms" not in over


def test_eight_factors_are_told_each_with_a_reason() -> None:
    reasons = decide(read_facts(PUBLIC)).reasons
    assert len({one.factor for one in reasons}) == 8
    assert all(one.why for one in reasons)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("format = 1\n", "data"),
        (f"{PUBLIC}colour = 1\n", "colour"),
        (f'{PUBLIC}regulations = ["XYZ"]\n', "regulations.0"),
        (f"{PUBLIC}tokens_per_day = -1\n", "tokens_per_day"),
        ("format = 1\ndata = \n", "the file is not TOML"),
        (f"format = {'[' * 5000}", "the file is not TOML"),
        (f"format = 1\ndata = 'public'\ntokens_per_day = {'9' * 5000}\n", "the file is not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_facts(text)
    assert caught.value.what.startswith(key)


@given(st.text(max_size=200))
def test_any_text_gives_facts_or_our_error(text: str) -> None:
    with suppress(SealiftError):
        assert isinstance(read_facts(text), Facts)


def test_the_commands_say_it_to_people_and_to_programs(tmp_path: Path) -> None:
    facts = tmp_path / "facts.toml"
    facts.write_text('format = 1\ndata = "health"\n')
    ran = CliRunner().invoke(create_app(), ["--json", "assess", "decision", str(facts)])
    assert json.loads(ran.stdout)["side"] == "own"
    ran = CliRunner().invoke(create_app(), ["assess", "power", "--gpus", "4", "--model", "A100_40GB"])
    assert "2471 W from the wall" in ran.stdout
    ran = CliRunner().invoke(create_app(), ["assess", "cost", "--requests", "500", "--tokens", "2000", "--rent", "3"])
    assert "2,160.00" in ran.stdout
    ran = CliRunner().invoke(create_app(), ["assess", "gpus", "--billions", "405", "--memory", "80"])
    assert "more than 8 of these GPUs" in ran.stdout
