"""Figures for those who decide: against the requirements' own examples, worked by hand."""

import math

import pytest

from bundler.assessing.cost import cost
from bundler.assessing.parallel import ALLOWED, split
from bundler.assessing.power import power
from media.errors import UsageError


def test_four_a100_need_what_the_formula_says_and_heat_is_that_of_the_wall() -> None:
    # X1: the formula's own figures; X2: heat of 2470.6 W from the wall, not of the 2100 W that arrive.
    assert power(4, "A100_40GB").to_json() == {
        "gpu_watts": 400,
        "load_watts": 2100,
        "total_power_watts": 2471,
        "cooling_btu_per_hour": 8430,
        "recommended_psu_watts": 2965,
        "monthly_kwh": 1779,
    }


def test_an_unknown_gpu_counts_with_400_watts_and_a_stated_rating_goes_before() -> None:
    assert power(1, "L40S").gpu_watts == 400
    assert power(1, "H100").gpu_watts == 700
    assert power(1, "H100", gpu_watts=350).load_watts == 850
    assert power(0).load_watts == 500


@pytest.mark.parametrize(("gpus", "watts"), [(-1, 400), (1, 0), (5000, 400)])
def test_no_such_server(gpus: int, watts: int) -> None:
    with pytest.raises(UsageError):
        power(gpus, gpu_watts=watts)


def test_70b_in_16_bits_fits_two_of_80_gb_where_the_common_formula_forgets_the_cache() -> None:
    found = split(70, 80, tokens=8192)
    assert found.tensor_parallel_size == 2
    assert found.claimed == 2
    # 140 GB of weights and 40,000 tokens no longer lie in 0.90 of two.
    fuller = split(70, 80, tokens=40_000)
    assert fuller.tensor_parallel_size == 4
    assert fuller.total_vram_needed == pytest.approx(140 + 13.1, abs=0.1)


def test_what_fits_exactly_needs_no_other_gpu_and_sizes_are_allowed_ones() -> None:
    # X4: int() + 1 says 3 for 70B on 70 GB; three is no size that divides heads.
    found = split(70, 140 / 2 / 0.90, tokens=0)
    assert (found.tensor_parallel_size, found.claimed) == (2, 2)
    assert split(70, 70, tokens=0).claimed == 3
    assert split(70, 70, tokens=0).tensor_parallel_size == 4
    assert {split(size, 24).tensor_parallel_size for size in (7, 13, 34, 70)} <= {*ALLOWED, 0}


def test_four_bits_take_a_third_and_a_little() -> None:
    assert split(70, 48, "awq", tokens=0).total_vram_needed == 49.0
    assert split(34, 24, "gptq", tokens=0).tensor_parallel_size == 2
    assert split(405, 80, tokens=0).tensor_parallel_size == 0


def test_500_requests_of_2000_tokens_cost_900_dollars_at_the_price_that_was_named() -> None:
    # X27: 30 million tokens; the published 1,500 needs another price, and the hourly rent exceeds both.
    found = cost(requests_per_day=500, tokens_per_request=2000, rent_per_hour=3.0)
    assert (found.tokens, found.provider, found.rented) == (30_000_000, 900.0, 2160.0)
    assert cost(requests_per_day=500, tokens_per_request=2000, price_per_1k=0.05).provider == 1500.0


def test_break_even_is_what_the_provider_no_longer_gets() -> None:
    found = cost(
        requests_per_day=500,
        tokens_per_request=2000,
        hardware=6000,
        monthly_kwh=200,
        hours_per_month=4,
        price_per_hour=50,
    )
    assert found.electricity == 30.0
    assert found.people == 200.0
    assert found.break_even_months == pytest.approx(6000 / (900 - 230), abs=0.05)
    assert found.ours == pytest.approx(230 + 6000 / 36, abs=0.01)
    assert found.per_request == pytest.approx(found.ours / 15_000, abs=0.0001)


def test_little_use_is_never_paid_back() -> None:
    found = cost(requests_per_day=10, tokens_per_request=500, monthly_kwh=300)
    assert found.provider == 4.5
    assert found.break_even_months is None


@pytest.mark.parametrize("price", [-1, math.nan, math.inf, 1e300])
def test_a_price_is_a_number_from_zero_to_what_can_be_reckoned(price: float) -> None:
    with pytest.raises(UsageError):
        cost(requests_per_day=1, tokens_per_request=1, price_per_1k=price)
    with pytest.raises(UsageError):
        cost(requests_per_day=price, tokens_per_request=1)


@pytest.mark.parametrize("per_token", [-1000, math.nan, math.inf])
def test_a_cache_is_of_a_size_that_can_be_reckoned(per_token: float) -> None:
    with pytest.raises(UsageError):
        split(7, 24, cache_mib_per_token=per_token)
