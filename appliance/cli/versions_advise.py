"""`sealift models advise`: what to carry for the memory that is here or planned."""

from typing import Annotated

import typer

from appliance.actions.advise import Advice, advise
from appliance.cli import context as shared
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
    gpu: Annotated[int, typer.Option("--gpu-gib", help="Memory of the GPUs together; 0 for none.", min=0)] = 0,
    ram: Annotated[int, typer.Option("--memory-gib", help="Plan for a machine with so much; this one's.", min=0)] = 0,
) -> None:
    """Advise on models and quantization levels by common figures; what a machine does is measured on it."""
    own = shared.of(context)
    room = Room(total=ram * _GIB, available=ram * _GIB) if ram else memory.room()
    advice = advise(room=room, gpu_gib=gpu, task=task, quality=quality, latency_ms=latency)
    own.result(advice.to_json(), "\n".join(_lines(advice)))


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
    return [*lines, *(f"! {warning}" for warning in advice.warnings)]
