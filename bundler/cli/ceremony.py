"""`sealift-bundler ceremony`: hold a key ceremony and show what people compare."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bundler.ceremony import (
    ROLES,
    Invitation,
    KeyPlace,
    hold,
    require_holdable,
    require_rotatable,
    rotate,
    trust_facts,
)
from bundler.ceremonyscript import ceremony_script
from bundler.chunks import read_small_file, write_codes
from bundler.cli import context as shared
from bundler.cli.bars import NOT_WRITTEN, DryRun, Home, OfflineRequired, SecretFd, own_keys, require_new, write_new
from bundler.cli.root import read_proposal
from bundler.joining import Brought, Joining, join
from bundler.offline import require_offline
from bundler.sheet import spaced
from bundler.signatory import Ceremony
from media.digest import sha256_hex
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Decide who may sign: hold a key ceremony, show its facts.", no_args_is_help=True)
    app.add_typer(group, name="ceremony")

    _at_one_machine(group)

    @group.command("join")
    def join_command(
        context: typer.Context,
        out: Annotated[Path, typer.Argument(help="A new file for the lead of the ceremony.")],
        person: Annotated[
            str, typer.Option("--person", help="ID:NAME, or ID:NAME:ROLE,ROLE; roles are all if left out.")
        ],
        root_keys: Annotated[
            list[str] | None,
            typer.Option("--root-key", help="For roots: gpg:FINGERPRINT, file:PATH or pkcs11:…; several for hybrid."),
        ] = None,
        release_keys: Annotated[
            list[str] | None, typer.Option("--release-key", help="For releases and statements, likewise.")
        ] = None,
        seal_key: Annotated[
            str,
            typer.Option("--seal-key", help="OpenPGP fingerprint for tag manifests; else that of --release-key gpg:"),
        ] = "",
        home: Home = None,
        secret_fd: SecretFd = None,
        codes: Annotated[
            Path | None, typer.Option("--codes", help="Also write it as QR codes and lines into this folder.")
        ] = None,
        offline_required: OfflineRequired = False,
        dry_run: DryRun = False,
    ) -> None:
        """On your own machine: write what you bring to a ceremony, signed by each key; a dry run signs too."""
        if offline_required:
            require_offline()
        person_id, name, roles = _person(person)
        brought = Brought(
            home=home,
            root=tuple(root_keys or ()),
            release=tuple(release_keys or ()),
            seal=seal_key,
            keys=own_keys(home, None, secret_fd),
        )
        made = join(person_id, name, roles, brought)
        if dry_run:
            require_new(out)
        else:
            write_new(out, made)
        if codes is not None and not dry_run:
            write_codes(codes, out.stem, made, at=shared.of(context).clock.now())
        digest = Joining.from_bytes(made).sha256
        text = "\n".join(
            [f"{out.name}: read this aloud at the ceremony", *(f"  {each}" for each in spaced(digest, 8, 4))]
        )
        if dry_run:
            text = f"{person_id} could join as {name} with {len(made):,} bytes; every key signed; {NOT_WRITTEN}"
        shared.of(context).result({"file": out.name, "sha256": digest, "person": person_id, "dry_run": dry_run}, text)

    @group.command("script")
    def script_command(
        context: typer.Context,
        out: Annotated[Path, typer.Argument(help="A new file, NAME.pdf or NAME.txt.")],
        proposal: Annotated[Path, typer.Option("--proposal", help="What is signed.")],
        witnesses: Annotated[list[str], typer.Option("--witness", help="Who looks on, without a key in the root.")],
        joins: Annotated[list[Path] | None, typer.Option("--join", help="The joining files.")] = None,
        folder: Annotated[
            Path | None, typer.Option("--ceremony", help="The ceremony folder, for a root after the first.")
        ] = None,
        place: Annotated[str, typer.Option("--place", help="Where it is held.")] = "",
        offline_required: OfflineRequired = False,
        dry_run: DryRun = False,
    ) -> None:
        """Print the script of a ceremony: steps, what is said, boxes to tick, lines for witnesses."""
        ours = shared.of(context)
        held = Ceremony.load(folder) if folder else None
        found = read_proposal(proposal)
        found.require_follows(held)
        script = ceremony_script(
            found,
            [Joining.from_bytes(each) for path in joins or () for each in read_small_file(path)],
            before=held.people if held else None,
            witnesses=witnesses,
            place=place,
            at=ours.clock.now(),
            is_offline=offline_required,
        )
        page = script.to_pdf() if out.suffix.lower() == ".pdf" else script.to_text().encode("utf-8")
        if dry_run:
            require_new(out)
        else:
            write_new(out, page)
        after = NOT_WRITTEN if dry_run else "print it twice"
        ours.result(
            {"file": out.name, "steps": len(script.steps), "dry_run": dry_run},
            f"{out.name}: {len(script.steps)} steps; {after}",
        )

    @group.command("show")
    def show_command(
        context: typer.Context, folder: Annotated[Path, typer.Argument(help="The ceremony folder.")]
    ) -> None:
        """Verify the root chain and show its people, thresholds and digests."""
        held = Ceremony.load(folder)
        shared.of(context).result(trust_facts(held), _text(held))


def _at_one_machine(group: typer.Typer) -> None:
    @group.command("hold")
    def hold_command(
        context: typer.Context,
        folder: Annotated[Path, typer.Argument(help="A new folder for the root, and for throwaway keys.")],
        environment: Annotated[str, typer.Option("--environment", help="demo, rehearsal or production.")],
        people: Annotated[
            list[str], typer.Option("--person", help="ID:NAME, or ID:NAME:ROLE,ROLE; roles are all if left out.")
        ],
        root_keys: Annotated[
            list[str] | None, typer.Option("--root-key", help="Production: ID=FINGERPRINT@GNUPG_HOME.")
        ] = None,
        release_keys: Annotated[
            list[str] | None, typer.Option("--release-key", help="Production: ID=FINGERPRINT@GNUPG_HOME.")
        ] = None,
        root_threshold: Annotated[int, typer.Option("--root-threshold", help="People who must sign a root.")] = 2,
        release_threshold: Annotated[
            int, typer.Option("--release-threshold", help="People who must sign a release.")
        ] = 2,
        offline_required: OfflineRequired = False,
        dry_run: DryRun = False,
    ) -> None:
        """Make the first root on one machine, signed by all who have the role root; `root propose` needs none such."""
        ours = shared.of(context)
        if offline_required:
            require_offline()
        roots, releases = _keys(root_keys), _keys(release_keys)
        invited = [_invitation(text, roots, releases) for text in people]
        limits = {"root": root_threshold, "release": release_threshold}
        if dry_run:
            require_holdable(folder, invited, environment=environment, thresholds=limits)
            ours.result(*_preview(invited, (), environment=environment, limits=limits))
            return
        held = hold(folder, invited, environment=environment, thresholds=limits)
        ours.result(trust_facts(held), _text(held))

    @group.command("rotate")
    def rotate_command(
        context: typer.Context,
        folder: Annotated[Path, typer.Argument(help="The ceremony folder.")],
        remove: Annotated[list[str] | None, typer.Option("--remove", help="Id of who may no longer sign.")] = None,
        add: Annotated[list[str] | None, typer.Option("--person", help="Who may from now on, as with hold.")] = None,
        root_keys: Annotated[
            list[str] | None, typer.Option("--root-key", help="Production: ID=FINGERPRINT@GNUPG_HOME.")
        ] = None,
        release_keys: Annotated[
            list[str] | None, typer.Option("--release-key", help="Production: ID=FINGERPRINT@GNUPG_HOME.")
        ] = None,
        homes: Annotated[
            list[str] | None, typer.Option("--home", help="Production: ID=GNUPG_HOME of who signs already.")
        ] = None,
        dry_run: DryRun = False,
    ) -> None:
        """Write the next root: the only way to revoke a person's keys. It travels with the next release."""
        roots, releases = _keys(root_keys), _keys(release_keys)
        invited = [_invitation(text, roots, releases) for text in add or ()]
        if dry_run:
            before = require_rotatable(folder, remove=remove or (), add=invited)
            limits = {use: before.threshold(use) for use in ("root", "release")}
            facts = _preview(invited, remove or (), environment=before.environment, limits=limits)
            shared.of(context).result(*facts)
            return
        homes_by_id = dict(_home(text) for text in homes or ())
        held = rotate(folder, remove=remove or (), add=invited, homes=homes_by_id)
        shared.of(context).result(trust_facts(held), _text(held))


def _preview(
    invited: list[Invitation], remove: Sequence[str], *, environment: str, limits: Mapping[str, int]
) -> tuple[dict[str, object], str]:
    people = {each.id: {"name": each.name, "roles": list(each.roles)} for each in invited}
    lines = [f"a root for {environment}: {limits['root']} people sign a root, {limits['release']} a release"]
    lines += [f"  {each.id}: {each.name} ({', '.join(each.roles)})" for each in invited]
    lines += [f"  {each} is taken away" for each in remove]
    facts = {"environment": environment, "thresholds": dict(limits), "people": people, "removed": list(remove)}
    return {**facts, "dry_run": True}, "\n".join([*lines, "no key was used, nothing was written"])


def _person(text: str) -> tuple[str, str, tuple[str, ...]]:
    person_id, _, rest = text.partition(":")
    name, _, roles = rest.partition(":")
    if not name:
        raise UsageError(
            what=f"{text!r} is no person", why="an id and a name are expected", fix="write alice:'Alice A.'"
        )
    return person_id, name, tuple(roles.split(",")) if roles else ROLES


def _invitation(text: str, roots: dict[str, KeyPlace], releases: dict[str, KeyPlace]) -> Invitation:
    person_id, name, roles = _person(text)
    return Invitation(
        id=person_id,
        name=name,
        roles=roles,
        root_key=roots.get(person_id),
        release_key=releases.get(person_id),
    )


def _keys(texts: list[str] | None) -> dict[str, KeyPlace]:
    found = {}
    for text in texts or []:
        person_id, _, rest = text.partition("=")
        fingerprint, _, home = rest.partition("@")
        if not home:
            raise UsageError(what=f"{text!r} names no key", fix="write ID=FINGERPRINT@GNUPG_HOME")
        found[person_id] = KeyPlace(home=Path(home), fingerprint=fingerprint)
    return found


def _home(text: str) -> tuple[str, Path]:
    person_id, _, home = text.partition("=")
    if not home:
        raise UsageError(what=f"{text!r} names no GnuPG home", fix="write ID=GNUPG_HOME")
    return person_id, Path(home)


def _text(held: Ceremony) -> str:
    lines = [f"{held.environment} root, version {len(held.chain)}", "  SHA-256 of 1.root.json"]
    lines += [f"    {line}" for line in spaced(held.first_root_sha256, 8, 4)]
    if len(held.chain) > 1:
        lines.append(f"  SHA-256 of {len(held.chain)}.root.json")
        lines += [f"    {line}" for line in spaced(sha256_hex(held.chain[-1]), 8, 4)]
    lines.append(f"  signature policy {held.people.policy}")
    lines.append(f"  {held.threshold('root')} people sign a root, {held.threshold('release')} a release")
    for person in held.people.people:
        lines.append(f"  {person.id}: {person.name} ({', '.join(person.roles)})")
        lines += [f"    seals with  {line}" for line in spaced(person.fingerprint, 4, 10)]
        for use, own in person.keys.items():
            schemes = {keyid: held.people.key_objects[keyid].scheme for keyid in own}
            lines += [f"    {use:<7} key {scheme:<24} {keyid.upper()}" for keyid, scheme in schemes.items()]
    return "\n".join(lines)
