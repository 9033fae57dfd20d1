"""`sealift-bundler root`: propose the next root, sign it apart, merge what people handed in."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bundler.chunks import read_small_file, read_small_files, write_codes
from bundler.cli import context as shared
from bundler.cli.bars import (
    NOT_WRITTEN,
    DryRun,
    Home,
    KeyPlaces,
    OfflineRequired,
    Person,
    SecretFd,
    own_keys,
    require_new,
    write_new,
)
from bundler.joining import Joining
from bundler.offline import require_offline
from bundler.proposal import Proposal, describe, propose
from bundler.rootsign import RootSignature, merge, sign_root, standing
from bundler.sheet import spaced
from bundler.signatory import Ceremony
from media.errors import UsageError
from media.people import SignaturePolicy

ProposalFile = Annotated[
    Path, typer.Argument(metavar="PROPOSAL", help="The proposal: its file, or lines of its codes.")
]
Held = Annotated[
    Path | None,
    typer.Option(
        "--ceremony",
        help="The ceremony folder with the roots so far; none for a first root.",
        envvar="SEALIFT_CEREMONY",
    ),
]
Codes = Annotated[Path | None, typer.Option("--codes", help="Also write it as QR codes and lines into this folder.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Make the first root or the next one: each person signs on their own machine.", no_args_is_help=True
    )
    app.add_typer(group, name="root")
    _register_proposal(group)
    _register_signatures(group)


def _register_proposal(group: typer.Typer) -> None:
    @group.command("propose")
    def propose_command(
        context: typer.Context,
        out: Annotated[Path, typer.Argument(help="A new file for the proposal.")],
        ceremony: Held = None,
        joins: Annotated[
            list[Path] | None, typer.Option("--join", help="A person's joining file, or lines of its codes.")
        ] = None,
        remove: Annotated[list[str] | None, typer.Option("--remove", help="Id of who may no longer sign.")] = None,
        environment: Annotated[
            str, typer.Option("--environment", help="Of a first root: demo, rehearsal or production.")
        ] = "",
        policy: Annotated[
            SignaturePolicy | None, typer.Option("--policy", help="hybrid: each person counts with both kinds of key.")
        ] = None,
        root_threshold: Annotated[
            int | None, typer.Option("--root-threshold", help="People who must sign a root.")
        ] = None,
        release_threshold: Annotated[
            int | None, typer.Option("--release-threshold", help="People who must sign a release.")
        ] = None,
        codes: Codes = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    ) -> None:
        """Write the unsigned root, and show what it changes."""
        ours, held = shared.of(context), _held(ceremony)
        joinings = [Joining.from_bytes(data) for path in joins or () for data in read_small_file(path)]
        limits = {"root": root_threshold, "release": release_threshold}
        proposal = propose(
            held,
            add=joinings,
            remove=remove or (),
            environment=environment,
            thresholds={use: least for use, least in limits.items() if least is not None},
            policy=policy,
        )
        facts = {
            **describe(proposal, held.people if held else None),
            "joining": {each.id: each.sha256 for each in joinings},
        }
        lines = _lines(facts)
        lines += [f"  joining file of {each.id}: {each.sha256}" for each in joinings]
        if not dry_run:
            write_new(out, proposal.to_bytes())
            _write_codes(ours, codes, "root-proposal", proposal.to_bytes())
            lines.append(f"next, each on their own machine: sealift-bundler root sign {out.name} --person ID …")
        ours.result(facts, "\n".join(lines))

    @group.command("show")
    def show_command(context: typer.Context, proposal: ProposalFile, ceremony: Held = None) -> None:
        """Show what a proposal changes and its digest, which people compare."""
        held = _held(ceremony)
        found = read_proposal(proposal)
        found.require_follows(held)
        facts = describe(found, held.people if held else None)
        shared.of(context).result(facts, "\n".join(_lines(facts)))


def _register_signatures(group: typer.Typer) -> None:
    @group.command("sign")
    def sign_command(
        context: typer.Context,
        proposal: ProposalFile,
        person: Person,
        out: Annotated[Path | None, typer.Option("--out", help="The file to hand in; PERSON.root-N.json here.")] = None,
        ceremony: Held = None,
        home: Home = None,
        key: KeyPlaces = None,
        secret_fd: SecretFd = None,
        digest: Annotated[
            str, typer.Option("--digest", help="What the others read aloud; it must be this proposal's.")
        ] = "",
        codes: Codes = None,
        offline_required: OfflineRequired = False,
        dry_run: DryRun = False,
    ) -> None:
        """Sign a proposal with each of your root keys, and write a small file to hand in; a dry run signs too."""
        ours, held = shared.of(context), _held(ceremony)
        if offline_required:
            require_offline()
        found = read_proposal(proposal)
        facts = describe(found, held.people if held else None)
        ours.say("\n".join(_lines(facts)))
        if digest and digest.replace(" ", "").lower() != found.digest:
            raise UsageError(
                what="this is another proposal",
                why=f"its digest is {found.digest[:16]}…",
                fix="compare the files; sign nothing before all read the same digest",
            )
        made = sign_root(found, person, held=held, home=own_keys(home, key, secret_fd))
        target = out or Path(f"{person}.root-{made.version}.json")
        said = f"{person} signed root {made.version} with {len(made.signatures)} keys; hand in {target.name}"
        if dry_run:
            require_new(target)
            said = f"{person} can sign root {made.version} with {len(made.signatures)} keys; {NOT_WRITTEN}"
        else:
            write_new(target, made.to_bytes())
            _write_codes(ours, codes, target.stem, made.to_bytes())
        shown = {"person": person, "signatures": len(made.signatures), "file": target.name, "dry_run": dry_run}
        ours.result({**facts, **shown}, said)

    @group.command("merge")
    def merge_command(
        context: typer.Context,
        proposal: ProposalFile,
        handed_in: Annotated[
            list[Path], typer.Argument(metavar="SIGNATURE...", help="What people handed in: files or lines of codes.")
        ],
        ceremony: Annotated[
            Path,
            typer.Option("--ceremony", help="The ceremony folder; new for a first root.", envvar="SEALIFT_CEREMONY"),
        ],
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say who signed and who misses.")] = False,
    ) -> None:
        """Verify what people handed in and write the root once enough of them signed."""
        found = read_proposal(proposal)
        held = Ceremony.load(ceremony) if (ceremony / "root").is_dir() and found.root.version > 1 else None
        files = [RootSignature.from_bytes(data) for data in read_small_files(handed_in)]
        found.require_follows(held)
        facts = standing(found, files, held).to_json()
        if dry_run:
            lines = [
                f"{_ROOTS[which]}: {len(each['signed'])} of {each['threshold']} signed"
                f" ({', '.join(each['signed']) or 'nobody'}); missing: {', '.join(each['missing']) or 'nobody'}"
                for which, each in facts.items()
            ]
            shared.of(context).result(facts, "\n".join(lines))
            return
        made = merge(found, files, folder=ceremony, held=held)
        digest = spaced(made.first_root_sha256, 8, 8)[0]
        said = f"root {len(made.chain)} is signed; it travels with the next release\n  SHA-256 of 1.root.json {digest}"
        shared.of(context).result({**facts, "root_sha256": made.first_root_sha256, "version": len(made.chain)}, said)


_ROOTS = {"before": "root before", "after": "new root"}


def _held(folder: Path | None) -> Ceremony | None:
    return None if folder is None else Ceremony.load(folder)


def read_proposal(file: Path) -> Proposal:
    """Return the one proposal of a file, or of the lines of codes in it.

    Raises:
        UsageError: It holds several files.
        MediaError: It cannot be read, or is no proposal.
    """
    found = read_small_file(file)
    if len(found) != 1:
        raise UsageError(what=f"{file.name} holds {len(found)} files", why="one proposal is expected")
    return Proposal.from_bytes(found[0])


def _write_codes(ours: shared.Context, folder: Path | None, name: str, data: bytes) -> None:
    if folder is not None:
        write_codes(folder, name, data, at=ours.clock.now())


def _lines(facts: dict[str, Any]) -> list[str]:
    return [
        f"root {facts['version']} for {facts['environment']}, signature policy {facts['policy']}",
        *(f"  {change}" for change in facts["changes"]),
        "  digest, which everyone reads aloud before signing:",
        *(f"    {line}" for line in spaced(facts["digest"], 8, 4)),
    ]
