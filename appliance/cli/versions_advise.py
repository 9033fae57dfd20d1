"""`sealift models advise`: what to carry for the machine that is here or planned, and what this one is enough for."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions.advise import Advice, advise
from appliance.actions.scales import Hardware, Part, Scale
from appliance.cli import context as shared
from appliance.errors import ConfigError
from appliance.registry import memory
from appliance.registry.memory import Room

_GIB = 2**30


def register(models: typer.Typer) -> None:
    """Add the command."""
    models.command("advise")(_advise)


def _advise(
    context: typer.Context,
    task: Annotated[
        str, typer.Option("--task", help="chat, code, completion, review, documentation or embeddings.")
    ] = "chat",
    quality: Annotated[str, typer.Option("--quality", help="highest, high, medium or low.")] = "high",
    latency: Annotated[int, typer.Option("--latency-ms", help="What a caller waits at most.", min=1)] = 1000,
    gpu: Annotated[
        int | None, typer.Option("--gpu-gib", help="Plan for GPUs with so much together; 0 for none.", min=0)
    ] = None,
    ram: Annotated[int, typer.Option("--memory-gib", help="Plan for a machine with so much; this one's.", min=0)] = 0,
) -> None:
    """Advise on models and levels by common figures, and compare this machine, unless one is planned."""
    own = shared.of(context)
    room = Room(total=ram * _GIB, available=ram * _GIB) if ram else memory.room()
    here = None if ram or gpu is not None else Hardware.probe(_state(own))
    cards = (gpu or 0) if here is None else sum(here.gpus) / _GIB
    advice = advise(room=room, gpu_gib=cards, task=task, quality=quality, latency_ms=latency, hardware=here)
    own.result(advice.to_json(), "\n".join(_lines(advice)))


def _state(own: shared.Context) -> Path:
    with suppress(ConfigError):  # a machine may be judged before it has a site file
        return own.config.at.state
    return Path("/")


def _lines(advice: Advice) -> list[str]:
    where = f"{advice.cores} cores" if advice.is_cpu else "GPUs"
    lines = [f"{advice.memory_gib:.1f} GiB for engines on {where}; by the decision tree: {advice.recommended}"]
    for one in advice.choices:
        level = "" if one.level is None else one.level.name
        lines.append(
            f"  {one.model.name:<30} {level:<8} about {one.gib:.1f} GiB with its cache, {one.model.context} tokens, "
            f"tier {one.model.tier}, {one.model.license}"
        )
    if not advice.choices:
        lines.append("  no model of the catalogue fits")
    lines += [
        f"- {one.model.name:<30} does not fit: about {one.gib:.1f} GiB with its cache as {one.tried.name}"
        for one in advice.misfits
    ]
    lines += [f"! {warning}" for warning in advice.warnings]
    return [*lines, *(line for scale in advice.scales for line in _scale(scale))]


def _scale(scale: Scale) -> list[str]:
    short = ", ".join(part.name for part in scale.lacks)
    verdict = f"not this machine, for its {short}" if short else "this machine is enough, as far as it can be seen"
    head = f"{scale.name} ({scale.id}; {scale.serves}; {scale.users[0]} to {scale.users[1]} people): {verdict}"
    return [head, *(_part(part) for part in scale.parts)]


def _part(part: Part) -> str:
    mark = {True: "ok", False: "!!", None: " ."}[part.is_enough]
    return f"  {mark} {part.name:<10} {part.has}; asked: {part.asks}"
