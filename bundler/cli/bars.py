"""Options and progress bars that several commands of the signing side share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import TaskID

from bundler.asked import FromDescriptor, Typed
from bundler.cli.context import Context
from bundler.errors import NotEmptyError
from bundler.measure import Progress
from bundler.mediasizes import room_of
from bundler.privatekeys import PrivateKeys, place_of
from bundler.register import Register
from media import clock, durable
from media.errors import UnreadableError, UsageError

Work = Annotated[Path, typer.Argument(help="The release's work folder.")]
_CEREMONY = typer.Option("--ceremony", help="The ceremony folder, with the root.", envvar="SEALIFT_CEREMONY")
CeremonyFolder = Annotated[Path, _CEREMONY]
CeremonyWanted = Annotated[Path | None, _CEREMONY]
"""Where a dry run does without it, and the command itself says that it is missing."""
Person = Annotated[str, typer.Option("--person", help="Who you are: your id in the root.")]
Home = Annotated[
    Path | None, typer.Option("--home", help="Your GnuPG home. Demo keys lie in the ceremony folder and need none.")
]
KeyPlaces = Annotated[
    list[str] | None,
    typer.Option("--key", help="Your other keys: file:PATH, or pkcs11:token=LABEL;object=NAME?module-path=MODULE."),
]
SecretFd = Annotated[
    int | None,
    typer.Option(
        "--secret-fd", help="Descriptor with a PIN or passphrase per line, in the order of --key; else asked."
    ),
]
OfflineRequired = Annotated[
    bool, typer.Option("--offline-required", help="Refuse while a network is connected to this machine.")
]
Capacities = Annotated[
    list[str] | None,
    typer.Option("--capacity", help="Room on each medium in order: 58GiB, 64GB, dvd, bd-dl, usb-64, 5*dvd."),
]
Seals = Annotated[list[str] | None, typer.Option("--seal", help="A seal number reserved for a volume, as N=NUMBER.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only check and say what would be done; change nothing.")]
RegisterFolder = Annotated[
    Path | None,
    typer.Option("--register", help="The register's folder; else register/ in --ceremony.", envvar="SEALIFT_REGISTER"),
]

NOT_WRITTEN: Final = "nothing was written"

_STANDARD_STREAMS = (0, 1, 2)
_LABEL = 32
_DIGITS = 4


def moment_of(text: str) -> datetime:
    """Return a time that a person typed.

    Raises:
        UsageError: It is none.
    """
    try:
        return clock.from_text(text)
    except ValueError:
        raise UsageError(what=f"{text!r} is no time", fix="write it as 2026-11-20T08:00:00Z") from None


def require_new(file: Path) -> None:
    """Refuse a file that is there, in a dry run of what is written once.

    Raises:
        NotEmptyError: It is.
        UnreadableError: Its folder is none.
    """
    if file.exists() or file.is_symlink():
        raise _exists(file)
    require_folder(file)


def require_folder(file: Path) -> None:
    """Refuse a file that is a folder, or lies in one that is not there or that this user may not write.

    Raises:
        UnreadableError: It is, or does.
    """
    if file.is_dir():
        raise _unwritable(file, "it is a folder")
    folder = file.parent
    if not folder.is_dir():
        raise _unwritable(file, "its folder is not there")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(file, "its folder is not yours to write")
    if file.exists() and not file.is_file():
        raise _unwritable(file, "what is there is no file")


def write_new(file: Path, data: bytes) -> None:
    """Write a file that is not there yet, through to the disk.

    Raises:
        NotEmptyError: It is there.
        UnreadableError: It cannot be written.
    """
    try:
        durable.write_new(file, data, mode=0o644)
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise _unwritable(file, error.strerror or "input/output error") from error


def _unwritable(file: Path, why: str) -> UnreadableError:
    return UnreadableError(
        what=f"{file.name or file} cannot be written", why=why, fix="name a file in a folder of yours"
    )


def _exists(file: Path) -> NotEmptyError:
    return NotEmptyError(what=f"{file.name} exists", why="nothing is overwritten", fix="choose another name")


def own_keys(home: Path | None, places: list[str] | None, secret_fd: int | None) -> PrivateKeys:
    """Return where a person's keys are, as the options say.

    Raises:
        UsageError: A place or the descriptor is none.
    """
    if secret_fd in _STANDARD_STREAMS or (secret_fd is not None and secret_fd < 0):
        raise UsageError(
            what=f"descriptor {secret_fd} is no place for secrets",
            why="0, 1 and 2 are the terminal's",
            fix="write --secret-fd 3 3< <(pass show token)",
        )
    secrets = Typed() if secret_fd is None else FromDescriptor(secret_fd)
    return PrivateKeys(home=home, places=tuple(place_of(each) for each in places or ()), secrets=secrets)


@contextmanager
def byte_bar(context: Context) -> Iterator[Progress]:
    """Lend a progress callback that draws one bar of bytes on stderr; silent with ``--json``."""
    with context.progress(in_bytes=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(done: int, total: int, label: str) -> None:
            bar.update(task, completed=done, total=total, description=_short(label))

        yield show


def _short(label: str) -> str:
    """Return a file's name, cut in its middle so that bar, amount and time fit beside it on a terminal of 80."""
    said, _, path = label.rpartition(" ")
    name = path.rpartition("/")[2]
    room = max(12, _LABEL - len(said) - 1) if said else _LABEL
    cut = name if len(name) <= room else f"{name[: room // 2]}…{name[-((room - 1) // 2) :]}"
    return f"{said} {cut}".lstrip()


@contextmanager
def download_bar(context: Context) -> Iterator[Progress]:
    """Lend a progress callback that draws a bar of bytes for each file it is told of; nothing while it is not."""
    with context.progress(in_bytes=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(done: int, total: int, label: str) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(_short(label), total=None)
            bar.update(tasks[label], completed=done, total=total)

        yield show


def parse_size(text: str) -> int:
    """Return the room for a volume that a text such as ``64GB``, ``58.2GiB`` or ``bd-dl`` means, in bytes.

    Raises:
        UsageError: It means none.
    """
    return room_of(text)


def numbered(texts: list[str] | None, *, option: str) -> list[tuple[int, str]]:
    """Return the pairs of options written as ``N=TEXT``.

    Raises:
        UsageError: One is written otherwise.
    """
    found = []
    for each in texts or []:
        number, separator, text = each.partition("=")
        if not separator or not (number.isascii() and number.isdigit()) or len(number) > _DIGITS or not text:
            raise UsageError(what=f"{each!r} does not say which volume", fix=f"write {option} 1={text or each}")
        found.append((int(number), text))
    return found


def seals_by_volume(texts: list[str] | None) -> dict[int, tuple[str, ...]]:
    """Return the seal numbers of each volume."""
    found: dict[int, tuple[str, ...]] = {}
    for number, seal in numbered(texts, option="--seal"):
        found[number] = (*found.get(number, ()), seal)
    return found


def register_at(folder: Path | None, ceremony: Path | None) -> Register:
    """Return the register in the folder that was named, else the one beside the root.

    Raises:
        UsageError: Neither was named.
    """
    if folder is None and ceremony is None:
        raise UsageError(
            what="no register was named", why="it lies beside the root", fix="give --ceremony or --register"
        )
    return Register(folder=folder if folder is not None else Path(str(ceremony)) / "register")
