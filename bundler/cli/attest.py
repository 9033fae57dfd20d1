"""`sealift-bundler attest`: fix the volumes and sign the statements about a candidate."""

from dataclasses import asdict
from typing import Annotated

import typer

from bundler.attest import Attested, attest, choose_volumes, would_attest
from bundler.cli import context as shared
from bundler.cli.bars import (
    Capacities,
    CeremonyFolder,
    DryRun,
    Home,
    KeyPlaces,
    Person,
    RegisterFolder,
    Seals,
    SecretFd,
    Work,
    byte_bar,
    own_keys,
    register_at,
    seals_by_volume,
)
from bundler.knownledgers import remember_ledgers
from bundler.measure import measure_tree
from bundler.mediasizes import rooms_of
from bundler.plan import ReleasePlan
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice, plan_volumes, rooms_for
from bundler.workfolder import WorkFolder
from media import layout
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("attest")
    def command(
        context: typer.Context,
        work: Work,
        ceremony: CeremonyFolder,
        person: Person,
        home: Home = None,
        key: KeyPlaces = None,
        secret_fd: SecretFd = None,
        capacity: Capacities = None,
        seal: Seals = None,
        place: Annotated[str, typer.Option("--place", help="Where it is packed, for custody.")] = "bundling machine",
        only: Annotated[
            list[str] | None, typer.Option("--only", help="Sign only this statement, such as provenance.")
        ] = None,
        register_folder: RegisterFolder = None,
        dry_run: DryRun = False,
    ) -> None:
        """Sign the statements that you made. The first time, this also fixes the volumes and their seal numbers."""
        ours = shared.of(context)
        folder, held = WorkFolder(root=work), Ceremony.load(ceremony)
        if folder.volumes.exists() and (capacity or seal):
            raise UsageError(what="the volumes of this release are fixed", fix="leave out --capacity and --seal")
        if dry_run:
            planned = None if folder.volumes.exists() else choose(folder, capacity, seal)
            _preview(ours, folder, planned, would_attest(folder, person, ceremony=held, only=only or ()))
            return
        if not folder.volumes.exists():
            choice = choose(folder, capacity, seal)
            known = remember_ledgers(folder, register_at(register_folder, ceremony))
            ours.say(f"ledgers of its sites that receipts tell of: {', '.join(known) or 'none'}")
            with byte_bar(ours) as progress:
                choose_volumes(folder, person, choice, ceremony=held, clock=ours.clock, place=place, progress=progress)
        done = attest(folder, person, ceremony=held, home=own_keys(home, key, secret_fd), only=only or ())
        lines = [f"signed {name}" for name in done.signed] or ["nothing was left for you to sign"]
        lines += [f"waits for another person: {name}" for name in done.waiting]
        if not done.waiting:
            lines.append(f"next: sealift-bundler sign {work} --person ID, for each person")
        ours.result(asdict(done), "\n".join(lines))


def _preview(ours: shared.Context, folder: WorkFolder, choice: VolumeChoice | None, would: Attested) -> None:
    lines = [f"you would sign {name}" for name in would.signed] or ["nothing is left for you to sign"]
    lines += [f"waits for another person: {name}" for name in would.waiting]
    facts: dict[str, object] = {"would_sign": list(would.signed), "waiting": list(would.waiting), "dry_run": True}
    if choice is not None:
        with byte_bar(ours) as progress:
            payload = measure_tree(folder.data, prefix=layout.DATA, progress=progress)
        index = plan_volumes(ReleasePlan.load(folder.plan), payload, choice)
        choice.require_for(index)
        facts["volumes"] = len(index.volumes)
        lines.append(f"volumes: {len(index.volumes)}, not yet fixed, each with a custody entry that the packer signs")
    ours.result(facts, "\n".join([*lines, "nothing was signed"]))


def choose(folder: WorkFolder, capacity: list[str] | None, seal: list[str] | None) -> VolumeChoice:
    """Return the volumes that the options describe."""
    rooms: tuple[int, ...] = ()
    if capacity:
        evidence = sum(path.stat().st_size for path in folder.attest.glob("*.json"))
        rooms = rooms_for(
            [size for each in capacity for size in rooms_of(each)],
            release=ReleasePlan.load(folder.plan),
            payload=measure_tree(folder.data, prefix=layout.DATA),
            attest_bytes=evidence,
        )
    return VolumeChoice(rooms=rooms, seals=seals_by_volume(seal))
