"""`sealift-bundler assess`: whether to serve a model oneself, and what that takes."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.assessing import cost as costs
from bundler.assessing import deciding, profiles
from bundler.assessing.parallel import Precision, split
from bundler.assessing.power import GPU_WATTS, power
from bundler.cli import context as shared
from media.errors import UsageError

_SIDES = {"own": "serve it yourselves", "provider": "ask a provider", "either": "either will do"}
_MOST_BYTES = 1 << 16


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Whether to serve a model yourselves, and what that takes.")
    app.add_typer(group, name="assess")
    group.command("decision")(_decision)
    group.command("power")(_power)
    group.command("cost")(_cost)
    group.command("gpus")(_gpus)
    group.command("profiles")(_profiles)


def _decision(
    context: typer.Context,
    facts: Annotated[Path, typer.Argument(help="A TOML file of facts; see docs/operator/deciding.md.")],
) -> None:
    """Weigh the eight factors: own machines or a provider."""
    found = deciding.decide(deciding.read_facts(_text(facts)))
    told = _SIDES[found.side] + (", nothing else is open" if found.is_forced else "")
    lines = [f"  {one.factor:<17} {one.side:<9} {one.why}" for one in found.reasons]
    shared.of(context).result(found.to_json(), "\n".join([told, *lines]))


def _power(
    context: typer.Context,
    gpus: Annotated[int, typer.Option("--gpus", help="How many; 0 for processors alone.")],
    model: Annotated[str, typer.Option("--model", help=f"{', '.join(GPU_WATTS)}; others count with 400 W.")] = "",
    watts: Annotated[int | None, typer.Option("--watts", help="The rating of one GPU, where it is known.")] = None,
) -> None:
    """Power, heat and supplies of a server. Heat is reckoned from the wall: what a supply loses warms the room too."""
    found = power(gpus, model, gpu_watts=watts)
    shared.of(context).result(
        found.to_json(),
        f"{found.total_power_watts} W from the wall ({found.monthly_kwh} kWh a month), "
        f"{found.cooling_btu_per_hour} BTU/h of heat, supplies of {found.recommended_psu_watts} W",
    )


def _cost(
    context: typer.Context,
    requests: Annotated[float, typer.Option("--requests", help="A day.")],
    tokens: Annotated[float, typer.Option("--tokens", help="Of one request and its answer.")],
    price: Annotated[
        float, typer.Option("--price", help="Dollars for 1,000 tokens at the provider.")
    ] = costs.PRICE_PER_1K,
    hardware: Annotated[float, typer.Option("--hardware", help="Dollars.")] = costs.HARDWARE,
    months: Annotated[int, typer.Option("--months", help="How long the hardware lasts.")] = costs.LIFETIME_MONTHS,
    kwh: Annotated[float, typer.Option("--kwh", help="A month; see `assess power`.")] = 0.0,
    kwh_price: Annotated[float, typer.Option("--kwh-price", help="Dollars.")] = costs.PRICE_PER_KWH,
    hours: Annotated[float, typer.Option("--hours", help="People's hours a month.")] = 0.0,
    hour_price: Annotated[float, typer.Option("--hour-price", help="Dollars.")] = 0.0,
    rent: Annotated[
        float | None, typer.Option("--rent", help="Dollars an hour of a rented machine, beside the two.")
    ] = None,
) -> None:
    """A month here and at a provider, and after how many months the hardware is paid."""
    found = costs.cost(
        requests_per_day=requests,
        tokens_per_request=tokens,
        price_per_1k=price,
        hardware=hardware,
        lifetime_months=months,
        monthly_kwh=kwh,
        price_per_kwh=kwh_price,
        hours_per_month=hours,
        price_per_hour=hour_price,
        rent_per_hour=rent,
    )
    lines = [
        f"{found.tokens:,} tokens a month",
        f"  provider  {found.provider:>12,.2f}  ({found.provider_per_request:.4f} a request)",
        f"  here      {found.ours:>12,.2f}  ({found.per_request:.4f} a request)",
        f"            hardware {found.hardware:,.2f}, electricity {found.electricity:,.2f}, people {found.people:,.2f}",
    ]
    if found.rented is not None:
        lines.append(f"  rented    {found.rented:>12,.2f}")
    paid = found.break_even_months
    lines.append("the hardware is never paid" if paid is None else f"the hardware is paid after {paid:g} months")
    shared.of(context).result(found.to_json(), "\n".join(lines))


def _gpus(
    context: typer.Context,
    billions: Annotated[float, typer.Option("--billions", help="Parameters of the model.")],
    memory: Annotated[float, typer.Option("--memory", help="GB of one GPU.")],
    precision: Annotated[Precision, typer.Option("--precision", help="fp16, fp8, awq or gptq.")] = "fp16",
    tokens: Annotated[int, typer.Option("--tokens", help="In use at once, by all requests together.")] = 8192,
    per_token: Annotated[
        float | None, typer.Option("--cache-mib", help="MiB of keys and values for one token, where it is known.")
    ] = None,
) -> None:
    """How many GPUs hold a model between them (tensor parallelism), its cache included."""
    found = split(billions, memory, precision, tokens=tokens, cache_mib_per_token=per_token)
    told = f"{found.total_vram_needed:g} GB, {found.cache_gb:g} of it cache: "
    if found.tensor_parallel_size:
        told += f"{found.tensor_parallel_size} GPUs with {found.vram_per_gpu:g} GB each"
    else:
        told += "more than 8 of these GPUs; choose larger ones or fewer bits"
    if found.claimed != found.tensor_parallel_size:
        told += f" (the common formula, which adds one and forgets the cache, says {found.claimed})"
    shared.of(context).result(found.to_json(), told)


def _profiles(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Print its lines for a recipe.")] = "",
) -> None:
    """Settings of vLLM for models and cards that people use, to put into a recipe."""
    own = shared.of(context)
    if name:
        found = profiles.named(name)
        own.result(found.to_json(), found.to_toml())
        return
    lines = [f"{one.name:<14} {one.model:<10} {one.gpus:<11} context of {one.n_ctx}" for one in profiles.PROFILES]
    own.result({"profiles": [one.to_json() for one in profiles.PROFILES]}, "\n".join(lines))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageError(what=f"{path.name} is too long", why="", fix="facts are a few lines of TOML")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            what=f"{path.name} cannot be read",
            why=getattr(error, "strerror", "") or "it is not UTF-8 text",
            fix="name a file as docs/operator/deciding.md shows",
        ) from error
