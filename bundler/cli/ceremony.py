"""`sealift-bundler ceremony`: hold a key ceremony and show what people compare."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.ceremony import ROLES, Invitation, KeyPlace, hold, rotate, trust_facts
from bundler.cli import context as shared
from bundler.sheet import spaced
from bundler.signatory import Ceremony
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Decide who may sign: hold a key ceremony, show its facts.", no_args_is_help=True)
    app.add_typer(group, name="ceremony")

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
    ) -> None:
        """Make the first root, signed by everyone with the role root."""
        ours = shared.of(context)
        roots, releases = _keys(root_keys), _keys(release_keys)
        held = hold(
            folder,
            [_invitation(text, roots, releases) for text in people],
            environment=environment,
            thresholds={"root": root_threshold, "release": release_threshold},
        )
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
    ) -> None:
        """Write the next root: the only way to revoke a person's keys. It travels with the next release."""
        roots, releases = _keys(root_keys), _keys(release_keys)
        held = rotate(
            folder,
            remove=remove or (),
            add=[_invitation(text, roots, releases) for text in add or ()],
            homes=dict(_home(text) for text in homes or ()),
        )
        shared.of(context).result(trust_facts(held), _text(held))

    @group.command("show")
    def show_command(
        context: typer.Context, folder: Annotated[Path, typer.Argument(help="The ceremony folder.")]
    ) -> None:
        """Verify the root chain and show its people, thresholds and digests."""
        held = Ceremony.load(folder)
        shared.of(context).result(trust_facts(held), _text(held))


def _invitation(text: str, roots: dict[str, KeyPlace], releases: dict[str, KeyPlace]) -> Invitation:
    person_id, _, rest = text.partition(":")
    name, _, roles = rest.partition(":")
    if not name:
        raise UsageError(
            what=f"{text!r} is no person", why="an id and a name are expected", fix="write alice:'Alice A.'"
        )
    return Invitation(
        id=person_id,
        name=name,
        roles=tuple(roles.split(",")) if roles else ROLES,
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
    lines.append(f"  {held.threshold('root')} people sign a root, {held.threshold('release')} a release")
    for person in held.people.people:
        lines.append(f"  {person.id}: {person.name} ({', '.join(person.roles)})")
        lines += [f"    release key {line}" for line in spaced(person.fingerprint, 4, 10)]
        lines += [f"    root key    {line}" for each in person.keys["root"] for line in spaced(each.upper(), 4, 10)]
    return "\n".join(lines)
