"""`sealift backup`, `sealift drill`: backups to an offline key, the way back, and proof that it works."""

from pathlib import Path
from typing import Annotated

import typer

from appliance import throwaway
from appliance.actions.backups import choosing, erasures, making, restoring, shelf
from appliance.actions.backups import drill as drills
from appliance.actions.backups.restoring import Decisions, Restored
from appliance.actions.backups.shelf import Kept
from appliance.audit.client import OfflineLedger
from appliance.audit.verify import verify as verify_ledger
from appliance.cli import backup_disk
from appliance.cli import context as shared
from appliance.cli.opened import ledger_of, read_note
from appliance.errors import BackupDamagedError
from media.errors import UsageError

_MOST_RECEIPT = 8 * 2**20
By = Annotated[list[str] | None, typer.Option("--by", metavar="NAME", help="Who you are; give it twice.")]
Home = Annotated[
    Path | None, typer.Option("--home", metavar="FOLDER", help="GnuPG folder with the recipient's private key.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A file of `sealift backup list`.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="Backups to a key that is not on this box.", no_args_is_help=True)
    app.add_typer(commands, name="backup")
    commands.command("recipient")(_recipient)
    commands.command("disk")(backup_disk.prepare)
    commands.command("make")(_make)
    commands.command("list")(_list)
    commands.command("verify")(_verify)
    commands.command("restore")(_restore)
    app.command("drill")(_drill)


def _recipient(
    context: typer.Context,
    certificate: Annotated[Path, typer.Argument(help="gpg --export FINGERPRINT > FILE, on the offline machine.")],
    by: By = None,
) -> None:
    """Choose who can open backups: two people, one certificate."""
    own = shared.of(context)
    done = choosing.choose(own.config, certificate, by or [], clock=own.clock)
    own.result(
        {"fingerprint": done.fingerprint, "before": done.before, "sequence": done.sequence},
        f"backups are for {done.fingerprint} from now on; record {done.sequence}",
    )


def _make(context: typer.Context) -> None:
    """Make one backup now, proven by reading it back as a restore would."""
    own = shared.of(context)
    made = making.make(own.config, clock=own.clock)
    kept = made.kept
    lines = [
        f"{kept.name}: {kept.length} bytes, {kept.size} records, sha256 {kept.sha256}",
        *(f"  removed {name}" for name in made.removed),
    ]
    own.result(made.to_json(), "\n".join(lines))


def _list(context: typer.Context) -> None:
    """List the backups on the disk that is plugged in, the newest last."""
    own = shared.of(context)
    found = shelf.kept(shelf.require_folder(own.config), own.config.site)
    own.result({"backups": [each.to_json() for each in found]}, "\n".join(map(_line, found)) or "there is no backup")


def _line(kept: Kept) -> str:
    media = ", ".join(str(each.serial) for each in kept.media) or "none"
    return (
        f"{kept.name}  {kept.length} bytes  {kept.size} records  for {kept.recipient[-16:]}  media: serial {media}\n"
        f"  sha256 {kept.sha256}"
    )


def _verify(context: typer.Context, file: File, home: Home = None) -> None:
    """Compare a file with its record; with --home also open it and recompute everything in it."""
    own = shared.of(context)
    if home is None:
        digest = restoring.digest_of(file)
        with ledger_of(own) as ledger:
            known = making.recorded(ledger, digest)
        if known is None:
            raise BackupDamagedError(
                what="the file is not one that this ledger recorded",
                why=f"sha256 {digest}",
                fix="use another; or open it with --home to see what it is",
            )
        facts = {"sha256": digest, "recorded": known.sequence, "opened": False}
        own.result(facts, f"as recorded at {known.time} (record {known.sequence}); not opened: give --home")
        return
    with throwaway.folder("sealift-verify-") as folder:
        digest, contents = restoring.opened(file, home, folder)
        ledger_inside = OfflineLedger.of_folder(folder, clock=own.clock)
        with own.progress() as bar:
            task = bar.add_task("recomputing", total=contents.manifest.size)
            done = verify_ledger(ledger_inside, progress=lambda at, of: bar.update(task, completed=at, total=of))
    if not done.ok:
        raise BackupDamagedError(what="the backup's ledger contradicts itself", why=done.findings[0], fix="use another")
    manifest = contents.manifest
    own.result(
        {
            "sha256": digest,
            "opened": True,
            "site": manifest.site,
            "origin": manifest.origin,
            "size": manifest.size,
            "root": manifest.root,
            "files": len(manifest.files),
            "media": [each.serial for each in manifest.media],
        },
        f"whole: {manifest.site}, {manifest.size} records, root {manifest.root}, {len(manifest.files)} files",
    )


def _restore(
    context: typer.Context,
    file: File,
    by: By = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")] = "",
    home: Home = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FILE", help="The last printed checkpoint of the lost box.")
    ] = None,
    receipt: Annotated[
        list[Path] | None, typer.Option("--receipt", metavar="FILE", help="A receipt that the sender kept; repeat.")
    ] = None,
    serial: Annotated[int, typer.Option("--serial", min=0, help="The highest serial known to be accepted.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="This box is in use: put what is here aside.")] = False,
    erased: Annotated[
        list[str] | None,
        typer.Option("--erased", metavar="FILE", help="A record of destruction, or a list of erasures; repeat."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything beside, then throw it away.")] = False,
) -> None:
    """Bring a lost box back onto this one; then receive the media that it names."""
    own = shared.of(context)
    decisions = Decisions(
        by=tuple(by or ()),
        reason=reason,
        printed=read_note(checkpoint) if checkpoint is not None else "",
        receipts=tuple(_bytes(path) for path in receipt or ()),
        serial=serial,
        replace=replace,
        erased=frozenset[str]().union(*map(_erased, erased or ())),
    )
    done = restoring.restore(own.config, file, home=home, decisions=decisions, clock=own.clock, dry_run=dry_run)
    own.result(done.to_json(), restored_text(own.config.site, done))


def restored_text(name: str, done: Restored) -> str:
    """Return what a restore of this site did, or would do, for people."""
    site, verb = done.rebuilt, "would restore" if done.dry_run else "restored"
    lost = {None: "unknown, nobody had a printed checkpoint", 0: "none that the print shows"}.get(
        site.lost, f"{site.lost} that the print shows"
    )
    lines = [
        f"{verb} {site.records} records of {name}, up to {site.covered_until}",
        f"  the ledger goes on as {site.origin}, epoch {site.epoch}: print a new checkpoint today",
        f"  records lost after the backup: {lost}",
        f"  serials count from {site.serial}; {len(site.people)} people",
        f"  {len(site.voided)} waiting requests voided, {site.erased} erased keys withheld",
        *([f"  --erased named {done.shown} destroyed keys: compare with what was brought"] if done.shown else []),
        *(
            f"  NOT ALL of {folder} could be read: keys that it says were destroyed may come back, unless people show"
            " which (--erased FILE)"
            for folder in done.unread
        ),
        f"  production was {site.production[:12] or 'on nothing'}"
        + "".join(f", line {number} on {digest[:12]}" for number, digest in site.further.items()),
        *media_lines(done),
        *([f"  what was here before lies in {done.aside}"] if done.aside else []),
    ]
    return "\n".join(lines)


def media_lines(done: Restored) -> list[str]:
    """Return what to receive; a serial below the accepted one is taken before the restore and never after it."""
    lines, floor = [], done.rebuilt.serial
    for each in done.media:
        named = f"serial {each.serial}: {each.release}, code {each.code}"
        if each.serial >= floor:
            lines.append(f"  receive the medium of {named}")
        elif done.dry_run:
            lines.append(f"  receive the medium of {named}: before the restore, which refuses serials below {floor}")
        else:
            lines.append(
                f"  missing is {named}: below {floor}, so the sender has to bring its versions in a new release"
            )
    return lines or ["  no medium is missing in the store"]


def _drill(
    context: typer.Context,
    by: By = None,
    home: Home = None,
    due: Annotated[bool, typer.Option("--due", help="Only where this month has none yet, as the timer does.")] = False,
) -> None:
    """Bring the newest backup back into a throwaway folder and record how long it takes.

    With two --by (and --home) the encrypted file is opened; without, the same content is streamed and rebuilt.
    """
    own = shared.of(context)
    if due:
        with ledger_of(own) as ledger:
            is_due = drills.is_due(own.config, ledger, clock=own.clock)
        if not is_due:
            own.result({"due": False}, "a drill was made this month; the next is due in the next one")
            return
    done = drills.drill(own.config, clock=own.clock, by=tuple(by or ()), home=home)
    facts = done.facts
    missing = ", ".join(str(serial) for serial in facts["media_missing"])
    own.result(
        done.to_json(),
        f"{facts['level']} drill: {facts['records']} records back in {facts['rto_milliseconds'] / 1000:.1f} s, "
        f"backup {facts['rpo_seconds']} s old{f', store lacks serial {missing}' if missing else ''}; "
        f"record {done.sequence}, {done.report.name}",
    )


def _erased(given: str) -> frozenset[str]:
    """Return the digests that a file names, or the one that was typed."""
    path = Path(given)
    return erasures.named(given.encode(errors="replace") if not path.exists() and given.isalnum() else _bytes(path))


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_RECEIPT)
    except OSError as error:
        raise UsageError(what=f"{path.name} cannot be read", why=error.strerror or "", fix="check its path") from error
