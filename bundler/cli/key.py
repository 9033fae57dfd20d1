"""`sealift-bundler key`: make a key file, and show the public half of a key wherever it lies."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.asked import FromDescriptor, Typed
from bundler.cli import context as shared
from bundler.cli.bars import NOT_WRITTEN, DryRun, SecretFd, own_keys, require_new
from bundler.keyfile import KeyKind, make_key_file
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Make and look at private keys that are not OpenPGP's.", no_args_is_help=True)
    app.add_typer(group, name="key")

    @group.command("make")
    def make_command(
        context: typer.Context,
        file: Annotated[Path, typer.Argument(help="A new file; only you may read it.")],
        kind: Annotated[KeyKind, typer.Option("--kind", help="What to make.")],
        secret_fd: SecretFd = None,
        dry_run: DryRun = False,
    ) -> None:
        """Make a private key in a file with a passphrase."""
        if dry_run:
            require_new(file)
            planned = {"kind": str(kind), "file": file.name, "dry_run": True}
            shared.of(context).result(planned, f"{file.name} would hold a key of kind {kind}; {NOT_WRITTEN}")
            return
        secrets = Typed() if secret_fd is None else FromDescriptor(secret_fd)
        passphrase = secrets.ask(f"new passphrase of {file.name}")
        if secret_fd is None and secrets.ask("the same again") != passphrase:
            raise UsageError(what="the two passphrases differ", why="", fix="type the same twice")
        made = make_key_file(file, kind, passphrase).public_key
        facts = {"keyid": made.keyid, "scheme": made.scheme, "file": file.name}
        shared.of(context).result(facts, f"{file.name}: {made.scheme}, key id {made.keyid}")

    @group.command("show")
    def show_command(
        context: typer.Context,
        place: Annotated[str, typer.Argument(help="file:PATH, or pkcs11:token=LABEL;object=NAME?module-path=MODULE.")],
        secret_fd: SecretFd = None,
    ) -> None:
        """Open a key and show its id and kind; a token's key is refused if the token would give it away."""
        with own_keys(None, [place], secret_fd).opened() as opened:
            facts = [{"keyid": keyid, "scheme": signer.public_key.scheme} for keyid, signer in opened.items()]
        shared.of(context).result(facts[0], f"{facts[0]['scheme']}, key id {facts[0]['keyid']}")
