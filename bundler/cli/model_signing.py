"""`sealift-bundler model-signing`: OpenSSF signatures of model folders, written and verified."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.errors import SigningError
from bundler.modelsigning import folder, signer
from bundler.modelsigning.manifest import NOT_SIGNED, SHARD_BYTES, Manifest
from media.digest import sha256_hex
from media.errors import UsageError

Model = Annotated[Path, typer.Argument(help="The folder of the model.", exists=True, file_okay=False)]


class Method(StrEnum):
    """What is hashed."""

    FILES = "files"
    SHARDS = "shards"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="OpenSSF model signatures: for third parties; never an input to trust here.")
    app.add_typer(group, name="model-signing", no_args_is_help=True)
    group.command("export")(_export)
    group.command("verify")(_verify)


def _export(
    context: typer.Context,
    model: Model,
    key: Annotated[Path, typer.Option("--key", help="A private key in PEM, on P-256, P-384 or P-521.")],
    out: Annotated[Path | None, typer.Option("--out", help="The signature file; MODEL/model.sig.")] = None,
    password_file: Annotated[Path | None, typer.Option("--password-file", help="Holds the key's password.")] = None,
    certificate: Annotated[Path | None, typer.Option("--certificate", help="Certificates, the key's first.")] = None,
    method: Annotated[Method, typer.Option("--method", help="Hash whole files, or pieces.")] = Method.FILES,
    shard_bytes: Annotated[int, typer.Option("--shard-bytes", min=1, help="Bytes of a piece.")] = SHARD_BYTES,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Hash, and write nothing.")] = False,
) -> None:
    """Sign a model folder so that upstream's `model_signing verify` takes it."""
    place = model / folder.SIGNATURE if out is None else out
    if place.exists() and not dry_run:
        raise SigningError(what=f"{place.name} is there already", why="nothing is overwritten", fix="name another")
    files = folder.files_of(model, signature=place)
    is_inside = place.absolute().is_relative_to(model.absolute())
    ignored = (*NOT_SIGNED, *([place.absolute().relative_to(model.absolute()).as_posix()] if is_inside else []))
    size = shard_bytes if method is Method.SHARDS else 0
    manifest = Manifest.of(model.resolve().name, files, shard_bytes=size, ignored=ignored)
    facts = {"files": len(files), "method": manifest.method, "root_sha256": manifest.root, "signature": place.name}
    text = f"{len(files)} files, root {manifest.root}"
    if dry_run:
        shared.of(context).result({**facts, "signature": None}, f"{text}; nothing written")
        return
    made = signer.sign(manifest.to_statement(), key, password_file=password_file, chain_file=certificate).to_bytes()
    place.write_bytes(made)
    shared.of(context).result({**facts, "signature_sha256": sha256_hex(made)}, f"{text}\nsigned in {place.name}")


def _verify(
    context: typer.Context,
    model: Model,
    signature: Annotated[Path, typer.Option("--signature", help="The signature file.")],
    key: Annotated[Path | None, typer.Option("--key", help="The publisher's public key in PEM.")] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Certificates that it must lead to.")
    ] = None,
) -> None:
    """Verify that every file of a model folder, and no other, is what its publisher signed."""
    if (key is None) == (certificate is None):
        raise UsageError(what="give --key or --certificate", why="one of them says who may sign", fix="see --help")
    found = folder.verify(signature, folder.files_of(model, signature=signature), key=key, certificate=certificate)
    if found.left:
        raise SigningError(
            what=f"{found.left} signed files are not in {model.name}", why="the folder is not whole", fix="complete it"
        )
    who = found.signatory.subject or f"key {found.signatory.key_sha256[:16]}"
    shared.of(context).result(found.to_json(), f"{len(found.files)} files, as signed by {who}\nroot {found.root}")
