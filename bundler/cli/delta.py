"""`sealift-bundler delta`: a set of volumes with only what a site has not; `prove-delta`: whether one still applies."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bundler import ledgerkeys
from bundler.cli import context as shared
from bundler.cli.bars import (
    Capacities,
    CeremonyFolder,
    Home,
    KeyPlaces,
    RegisterFolder,
    Seals,
    SecretFd,
    Work,
    byte_bar,
    own_keys,
    parse_size,
    register_at,
    seals_by_volume,
)
from bundler.cli.context import Context
from bundler.delta import DeltaSet, Packing, make_delta, plan_set
from bundler.deltaproof import prove
from bundler.holdings import EarlierRelease, Holdings, holdings_of_register
from bundler.inventory import read_inventory, site_of
from bundler.knownledgers import record_inventory
from bundler.register import Register
from bundler.signatory import Ceremony
from bundler.signedmetadata import signed_release
from bundler.volumechoice import VolumeChoice, describe
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder
from media import limits
from media.errors import UnreadableError, UsageError
from media.volume import VolumeIndex

_Inventory = Annotated[
    Path | None, typer.Option("--inventory", help="What the site says that it holds: `sealift export inventory`.")
]
_FromRegister = Annotated[
    bool, typer.Option("--from-register", help="Nothing comes back from the site: build on what was sent to it.")
]
_Site = Annotated[str, typer.Option("--site", help="For which site, with --from-register.")]
_Earlier = Annotated[
    list[Path] | None,
    typer.Option("--base", help="An earlier release: its work folder or the folder of its volumes. May be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("delta")
    def delta_command(
        context: typer.Context,
        work: Work,
        destination: Annotated[Path, typer.Argument(help="A new work folder for the delta set.")],
        ceremony: CeremonyFolder,
        inventory: _Inventory = None,
        from_register: _FromRegister = False,
        site: _Site = "",
        base: _Earlier = None,
        person: Annotated[str, typer.Option("--person", help="Who packs it: your id in the root.")] = "",
        home: Home = None,
        key: KeyPlaces = None,
        secret_fd: SecretFd = None,
        capacity: Capacities = None,
        seal: Seals = None,
        place: Annotated[str, typer.Option("--place", help="Where it is packed, for custody.")] = "bundling machine",
        folder: RegisterFolder = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be carried.")] = False,
    ) -> None:
        """Carry only the blocks that a site has not, and prove here that the site can complete them."""
        ours, held = shared.of(context), Ceremony.load(ceremony)
        earlier = [EarlierRelease.open(each) for each in base or []]
        known = register_at(folder, ceremony)
        holdings = _holdings(
            ours, known, inventory, site=site, from_register=from_register, earlier=earlier, enters=not dry_run
        )
        _say(ours, holdings)
        capacities = tuple(parse_size(each) for each in capacity or [])
        if dry_run:
            index, _, rooms = plan_set(WorkFolder(root=work), holdings, ceremony=held, capacities=capacities)
            choice = VolumeChoice(rooms=rooms, seals=seals_by_volume(seal))
            choice.require_for(index)
            volumes = describe(index, choice)
            ours.result({"volumes": volumes, "base": _base(index)}, _volumes_text(volumes))
            return
        if not person:
            raise UsageError(what="nobody is named who packs it", fix="add --person ID, or --dry-run to see the plan")
        packing = Packing(
            packer=person,
            place=place,
            home=own_keys(home, key, secret_fd),
            capacities=capacities,
            seals=seals_by_volume(seal),
        )
        with byte_bar(ours) as progress:
            made = make_delta(
                WorkFolder(root=work),
                WorkFolder(root=destination),
                holdings,
                packing,
                ceremony=held,
                clock=ours.clock,
                earlier=earlier,
                progress=progress,
            )
        choice = VolumeChoice.load(WorkFolder(root=destination))
        volumes = describe(made.index, choice)
        facts = {
            "volumes": volumes,
            "base": _base(made.index),
            "proof": made.proof.to_json(),
            "assumed": list(made.assumed),
        }
        ours.result(facts, _made_text(made, volumes, destination))

    @app.command("prove-delta")
    def prove_command(
        context: typer.Context,
        work: Annotated[Path, typer.Argument(help="The delta set's work folder.")],
        ceremony: CeremonyFolder,
        inventory: _Inventory = None,
        from_register: _FromRegister = False,
        site: _Site = "",
        base: _Earlier = None,
        folder: RegisterFolder = None,
    ) -> None:
        """Prove that a delta set applies at a site as it is now; name what is missing there otherwise."""
        ours, held, set_folder = shared.of(context), Ceremony.load(ceremony), WorkFolder(root=work)
        earlier = [EarlierRelease.open(each) for each in base or []]
        known = register_at(folder, ceremony)
        holdings = _holdings(
            ours, known, inventory, site=site, from_register=from_register, earlier=earlier, enters=True
        )
        index = volume_index(set_folder)
        targets, _, _ = signed_release(lambda name: (work / name).read_bytes(), index, held)
        copies = {sha256: path for each in earlier for sha256, path in each.whole_files().items()}
        with byte_bar(ours) as progress:
            proof = prove(index, targets, holdings, carried=set_folder.candidate, copies=copies, progress=progress)
        _say(ours, holdings)
        ours.result({"proof": proof.to_json(), "assumed": list(holdings.assumed)}, f"it applies: {proof.to_text()}")


def _holdings(
    ours: Context,
    known: Register,
    inventory: Path | None,
    *,
    site: str,
    from_register: bool,
    earlier: list[EarlierRelease],
    enters: bool,
) -> Holdings:
    if from_register == (inventory is not None):
        raise UsageError(
            what="it is not said what the site holds",
            why="either the site says it, or the register of what was sent",
            fix="give --inventory FILE, or --from-register with --site and --base",
        )
    entries = known.entries()
    if inventory is None:
        if not site:
            raise UsageError(what="no site is named", why="the register knows several", fix="add --site NAME")
        return holdings_of_register(entries, site, earlier, at=ours.clock.now().replace(microsecond=0))
    untrusted = _content(inventory)
    named = site_of(untrusted)
    if site and site != named:
        raise UsageError(what=f"the inventory is of {named}, not of {site}", fix="give the inventory of that site")
    keys = ledgerkeys.required(entries, named, why="an inventory proves nothing without it")
    believed = read_inventory(untrusted, keys)
    if enters:
        record_inventory(known, believed, clock=ours.clock)
    return Holdings.of_inventory(believed.inventory)


def _say(ours: Context, holdings: Holdings) -> None:
    serials = ", ".join(map(str, holdings.serials))
    whose = "its own inventory" if holdings.source == "inventory" else "the register"
    ours.say(f"{holdings.site} holds serial {serials}, says {whose} at {holdings.at.isoformat()}")
    for each in holdings.assumed:
        ours.say(f"  assumed: {each}")


def _base(index: VolumeIndex) -> dict[str, Any]:
    return {} if index.base is None else {**index.base.to_json(), "set": index.set_digest}


def _volumes_text(volumes: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"volume {each['number']}: id {each['id']}, {each['files']} files, {each['payload_bytes']:,} bytes"
        for each in volumes
    )


def _made_text(made: DeltaSet, volumes: list[dict[str, Any]], destination: Path) -> str:
    lines = [f"a delta set of {made.index.release}, serial {made.index.serial}: {made.proof.to_text()}"]
    lines += [_volumes_text(volumes)]
    if made.proof.carried_bytes * 10 > made.proof.bytes * 9:
        lines.append("it saves less than a tenth: a full set needs nothing at the site")
    lines.append(f"next: sealift-bundler seal {destination} --person ID, for each person; then write it")
    return "\n".join(lines)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as source:
            return source.read(2 * limits.INVENTORY_BYTES + 1)
    except OSError as error:
        raise UnreadableError(
            what=f"{file.name} cannot be read", why=error.strerror or "input/output error", fix="name the file"
        ) from error
