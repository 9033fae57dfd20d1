"""The site's prices: what is written counts, sums are exact, and a model without a price has no cost."""

import tomllib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config, parse
from appliance.costs import CostPrice, CostSection, amount, price_text
from appliance.errors import ConfigError
from appliance.install.sitefile import render

HEAD = 'site = "s"\n'
BOTH = CostSection(prices=[CostPrice(model="big", prompt=0.5, answer=2), CostPrice(prompt=0.001, answer=0.004)])


def test_a_models_own_price_goes_before_that_of_all_others() -> None:
    assert BOTH.billionths("big", prompt=1000, answer=500) == 1_500_000_000
    assert BOTH.billionths("small", prompt=1000, answer=500) == 3_000_000
    assert CostSection(prices=BOTH.prices[:1]).billionths("small", prompt=1, answer=1) is None
    assert CostSection().billionths("big", prompt=1, answer=1) is None


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))), st.floats(0, 1000), st.floats(0, 1000))
def test_a_sum_of_costs_is_the_cost_of_the_sum(asked: list[tuple[int, int]], prompt: float, answer: float) -> None:
    cost = CostSection(prices=[CostPrice(prompt=prompt, answer=answer)])
    whole = cost.billionths("x", prompt=sum(one for one, _ in asked), answer=sum(two for _, two in asked))

    assert sum(cost.billionths("x", prompt=one, answer=two) or 0 for one, two in asked) == whole


@pytest.mark.parametrize(
    ("billionths", "said"), [(0, "0.0000"), (49_999, "0.0000"), (50_000, "0.0001"), (12_345_678_901_234, "12345.6789")]
)
def test_an_amount_is_a_decimal_number_rounded_half_up(billionths: int, said: str) -> None:
    assert amount(billionths) == said


@pytest.mark.parametrize(("price", "said"), [(0.0, "0"), (1000.0, "1000"), (0.00001, "0.00001"), (0.25, "0.25")])
def test_a_price_is_written_without_an_exponent(price: float, said: str) -> None:
    assert price_text(price) == said


def test_prices_of_a_site_file_are_read_whole_or_with_decimals() -> None:
    text = HEAD + '[cost]\ncurrency = "EUR"\nprices = [{ model = "a", prompt = 1, answer = 0.5 }]\n'

    assert parse(text.encode()).cost.prices == [CostPrice(model="a", prompt=1.0, answer=0.5)]


@pytest.mark.parametrize(
    "section",
    [
        "prices = [{ prompt = -1, answer = 1 }]",
        "prices = [{ prompt = nan, answer = 1 }]",
        "prices = [{ prompt = inf, answer = 1 }]",
        "prices = [{ prompt = 1 }]",
        'prices = [{ prompt = "1", answer = 1 }]',
        "prices = [{ prompt = 1, answer = 1 }, { prompt = 2, answer = 2 }]",
        'currency = "euro"',
        'currency = "$"',
        "machine_hour = 1.0",
    ],
)
def test_what_is_no_price_is_refused_and_the_key_named(section: str) -> None:
    tomllib.loads(section)
    with pytest.raises(ConfigError) as refused:
        parse(f"{HEAD}[cost]\n{section}\n".encode())

    assert refused.value.what.startswith("cost")


@given(st.dictionaries(st.sampled_from(["currency", "prices"]), st.integers() | st.text() | st.lists(st.text())))
def test_any_section_is_read_or_refused_as_ours(untrusted: dict[str, Any]) -> None:
    lines = "\n".join(f"{name} = {_toml(value)}" for name, value in untrusted.items())
    with suppress(ConfigError):
        parse(f"{HEAD}[cost]\n{lines}\n".encode())


@given(st.lists(st.tuples(st.text(max_size=20), st.floats(0, 1000), st.floats(0, 1000)), unique_by=lambda one: one[0]))
def test_prices_are_the_same_after_setup_wrote_the_site_file_again(said: list[tuple[str, float, float]]) -> None:
    prices = [CostPrice(model=model, prompt=prompt, answer=answer) for model, prompt, answer in said]
    config = Config(site="s", cost=CostSection(currency="EUR", prices=prices[:64]))

    assert parse(render(config).encode()) == config


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if isinstance(value, int) else '"' + "".join(f"\\U{ord(one):08x}" for one in value) + '"'
