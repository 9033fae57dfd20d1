"""What serving oneself costs beside asking a provider (M4 to M9, A20, X27).

Prices are the reader's own; the defaults are figures that people published, for a first look.

    provider   tokens a month x its price
    ours       hardware over the months that it lasts + electricity + people's hours
    break-even hardware / (provider - electricity - people), in months
"""

from dataclasses import dataclass
from typing import Any, Final

from media.errors import UsageError

DAYS: Final = 30
PRICE_PER_1K: Final = 0.03
"""Dollars for 1,000 tokens of a large model at a provider."""
HARDWARE: Final = 6000.0
"""Dollars; between 3,000 and 10,000 for one machine with a consumer's GPU (M5)."""
LIFETIME_MONTHS: Final = 36
PRICE_PER_KWH: Final = 0.15
_MOST: Final = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Dollars a month, rounded to cents.

    Attributes:
        tokens: A month's tokens.
        provider: What they cost at a provider.
        electricity: Of our machine, at full load.
        people: Of those who run it.
        hardware: The part of its price that falls on a month.
        ours: The three together.
        per_request: Of ours.
        provider_per_request: Of the provider.
        rented: A machine rented by the hour all month, where an hour's price was given.
        break_even_months: After how many the hardware is paid by what the provider does not get; None where never.
    """

    tokens: int
    provider: float
    electricity: float
    people: float
    hardware: float
    ours: float
    per_request: float
    provider_per_request: float
    rented: float | None
    break_even_months: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {name: getattr(self, name) for name in self.__slots__}


def cost(  # noqa: PLR0913 - each is a price that somebody knows
    *,
    requests_per_day: float,
    tokens_per_request: float,
    price_per_1k: float = PRICE_PER_1K,
    hardware: float = HARDWARE,
    lifetime_months: int = LIFETIME_MONTHS,
    monthly_kwh: float = 0.0,
    price_per_kwh: float = PRICE_PER_KWH,
    hours_per_month: float = 0.0,
    price_per_hour: float = 0.0,
    rent_per_hour: float | None = None,
) -> Cost:
    """Return what a month costs here and at a provider.

    Raises:
        UsageError: A number is negative, beyond all reckoning or none, or there is nothing to reckon.
    """
    given = (
        requests_per_day, tokens_per_request, price_per_1k, hardware, lifetime_months, monthly_kwh, price_per_kwh,
        hours_per_month, price_per_hour, rent_per_hour or 0.0,
    )  # fmt: skip
    if (
        not all(0 <= one <= _MOST for one in given)
        or requests_per_day <= 0
        or tokens_per_request <= 0
        or lifetime_months < 1
    ):
        raise UsageError(
            what="these are no costs",
            why=f"a number is negative or above {_MOST:.0e}, or no request, token or month is left",
            fix="name requests a day and tokens of each; prices are at least 0",
        )
    requests = requests_per_day * DAYS
    tokens = requests * tokens_per_request
    provider = tokens / 1000 * price_per_1k
    electricity, people = monthly_kwh * price_per_kwh, hours_per_month * price_per_hour
    depreciation = hardware / lifetime_months
    ours = electricity + people + depreciation
    saved = provider - electricity - people
    return Cost(
        tokens=round(tokens),
        provider=round(provider, 2),
        electricity=round(electricity, 2),
        people=round(people, 2),
        hardware=round(depreciation, 2),
        ours=round(ours, 2),
        per_request=round(ours / requests, 4),
        provider_per_request=round(provider / requests, 4),
        rented=None if rent_per_hour is None else round(rent_per_hour * 24 * DAYS, 2),
        break_even_months=round(hardware / saved, 1) if saved > 0 else None,
    )
