"""`sealift-bundler seal`: round two, the tag manifests; and the plan of the volumes."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from bundler.cli import context as shared
from bundler.cli.attest import choose
from bundler.cli.bars import (
    Capacities,
    CeremonyWanted,
    Home,
    KeyPlaces,
    OfflineRequired,
    SecretFd,
    Work,
    byte_bar,
    own_keys,
)
from bundler.measure import measure_tree
from bundler.offline import require_offline
from bundler.plan import ReleasePlan
from bundler.seal import seal
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice, describe, plan_volumes
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder
from media import layout
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("seal")
    def command(
        context: typer.Context,
        work: Work,
        ceremony: CeremonyWanted = None,
        person: Annotated[str, typer.Option("--person", help="Who you are: your id in the root.")] = "",
        home: Home = None,
        key: KeyPlaces = None,
        secret_fd: SecretFd = None,
        offline_required: OfflineRequired = False,
        capacity: Capacities = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which volume carries what.")] = False,
    ) -> None:
        """Compare every byte with the signed lists and sign each volume's tag manifest."""
        ours, folder = shared.of(context), WorkFolder(root=work)
        if dry_run:
            with byte_bar(ours) as progress:
                volumes = volume_plan(folder, capacity, progress=progress)
            ours.result({"volumes": volumes}, volume_text(volumes))
            return
        if capacity:
            raise UsageError(what="the volumes are fixed when the release is attested", fix="use attest --capacity")
        if not person:
            raise UsageError(what="nobody is named", fix="add --person ID, or --dry-run to see the volumes")
        if ceremony is None:
            raise UsageError(what="no ceremony folder is named", fix="add --ceremony FOLDER, or set SEALIFT_CEREMONY")
        if offline_required:
            require_offline()
        keys = own_keys(home, key, secret_fd)
        with byte_bar(ours) as progress:
            done = seal(folder, person, ceremony=Ceremony.load(ceremony), home=keys, progress=progress)
        lines = [f"sealed by {', '.join(done.sealed_by)}; {done.threshold} people are needed"]
        if done.sheet is not None:
            lines += [
                f"release code {done.code}",
                f"trust sheet: {done.sheet}",
                f"next: sealift-bundler write {work} FOLDER...",
            ]
        ours.result({**asdict(done), "sheet": done.sheet and str(done.sheet)}, "\n".join(lines))


def volume_plan(folder: WorkFolder, capacity: list[str] | None, *, progress: Any) -> list[dict[str, Any]]:
    """Return the volumes as fixed, or as they would be with these capacities."""
    if folder.is_frozen and not capacity:
        return describe(volume_index(folder), VolumeChoice.load(folder))
    choice = VolumeChoice.load(folder) if folder.volumes.exists() and not capacity else choose(folder, capacity, None)
    payload = measure_tree(folder.data, prefix=layout.DATA, progress=progress)
    return describe(plan_volumes(ReleasePlan.load(folder.plan), payload, choice), choice)


def volume_text(volumes: list[dict[str, Any]]) -> str:
    """Return the plan for people, with both numbers of every volume."""
    return "\n".join(
        f"volume {volume['number']} of {len(volumes)}   id {volume['id']}   {volume['files']} files"
        f" ({volume['cut']} cut)   {volume['payload_bytes']:,} bytes of {volume['room_bytes']:,}"
        for volume in volumes
    )
