"""`sealift gpus`: what the GPUs of this machine do now."""

import typer

from appliance.actions.gpus import gpus as look
from appliance.cli import context as shared
from appliance.registry.gpus import Gpu


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("gpus")
    def gpus(context: typer.Context) -> None:
        """Show use, memory and power of each GPU, as the driver tells them now."""
        own = shared.of(context)
        found = look()
        own.result({"gpus": [one.to_json() for one in found]}, "\n".join(map(_line, found)))


def _line(gpu: Gpu) -> str:
    memory = f"{gpu.memory_bytes / 2**30:.1f} of {gpu.memory_total_bytes / 2**30:.1f} GiB"
    power = "" if gpu.power_watts is None else f", {gpu.power_watts:.0f} W"
    return f"GPU {gpu.gpu_id}: {gpu.utilization_percent:.0f} % busy, {memory}{power}"
