"""What the site says that tokens cost, and what an answer costs then: the site's own prices, converted by nobody.

A machine costs the same whether it answers or not. A price of tokens is the site's way to share that out, as it would
compare a provider; what it is made of is the site's own matter.
"""

from typing import Final, Self

from pydantic import Field, model_validator

from appliance.sections import Section

PLACES: Final = 9
_PER_TOKEN: Final = 10**PLACES // 1000
"""Sums are of billionths, whole numbers, so that none depends on its order; a price is of 1,000 tokens."""


class CostPrice(Section):
    """What 1,000 tokens of a model cost, read and written; without a model, of each that has no price of its own."""

    model: str = Field(default="", max_length=200)
    prompt: float = Field(ge=0, le=1000, allow_inf_nan=False)
    answer: float = Field(ge=0, le=1000, allow_inf_nan=False)


class CostSection(Section):
    """What tokens cost by model, in a currency that is only named; without prices no figure is shown anywhere."""

    currency: str = Field(default="", pattern=r"^[A-Z]{0,3}$")
    prices: list[CostPrice] = Field(default=[], max_length=64)

    @model_validator(mode="after")
    def _each_model_has_one_price(self) -> Self:
        if len({one.model for one in self.prices}) < len(self.prices):
            raise ValueError("a model has two prices")
        return self

    def billionths(self, model: str, *, prompt: int, answer: int) -> int | None:
        """Return what so many tokens of a model cost, in billionths of the currency; None where it has no price."""
        by_model = {one.model: one for one in self.prices}
        price = by_model.get(model) or by_model.get("")
        if price is None:
            return None
        return prompt * round(price.prompt * _PER_TOKEN) + answer * round(price.answer * _PER_TOKEN)


def amount(billionths: int, *, places: int = 4) -> str:
    """Return an amount as a decimal number of so many places, rounded half up."""
    unit = 10 ** (PLACES - places)
    whole, part = divmod((billionths + unit // 2) // unit, 10**places)
    return f"{whole}.{part:0{places}}"


def price_text(price: float) -> str:
    """Return a price as a decimal number, without an exponent."""
    return f"{price:.9f}".rstrip("0").rstrip(".")
