"""`sealift export kubernetes`: a Helm chart of what is in production here."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions.kubernetes.chart_values import Wishes
from appliance.actions.kubernetes.export import export
from appliance.cli import context as shared


def register(commands: typer.Typer) -> None:
    """Add the command to the group of exports."""
    commands.command("kubernetes")(_kubernetes)


def _kubernetes(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    server_image: Annotated[str, typer.Option("--server-image", help="NAME@sha256:DIGEST of gateway and ledger.")] = "",
    engine_image: Annotated[str, typer.Option("--engine-image", help="NAME@sha256:DIGEST of the engine.")] = "",
    replicas: Annotated[int, typer.Option("--replicas", min=1, help="Pods to begin with.")] = 2,
    most: Annotated[int, typer.Option("--most", min=0, help="Most pods; more than --replicas turns scaling on.")] = 0,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="GPUs of one node: 0, 1, 2, 4 or 8.")] = 0,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Nodes for one version together (vLLM with Ray).")] = 1,
    images: Annotated[bool, typer.Option(help="Lay out the wheels that images are built from.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be written.")] = False,
) -> None:
    """Write a Helm chart of what is in production, and what its images are built from. Nothing leaves this box.

    Without images to name, only what they are built from is written: build them, then ask for the chart.

    Where several models are in production it is of the first line's version alone.
    """
    own = shared.of(context)
    wishes = None
    if server_image or engine_image:
        wishes = Wishes(
            server_image=server_image, engine_image=engine_image, replicas=replicas, most=most, gpus=gpus, nodes=nodes
        )
    made = export(own.config, folder, wishes, images=images, dry_run=dry_run)
    lines = [
        *made.files,
        f"{len(made.files)} files {'written below' if made.written else 'would be written below'} {folder}",
    ]
    if wishes is None:
        lines.append("no chart yet: build both images, then give --server-image and --engine-image (and --no-images)")
    text = "\n".join(lines)
    own.result({"written": made.written, "files": list(made.files), "values": made.values}, text)
