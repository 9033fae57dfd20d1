"""The stream inside a backup: a plain tar that stock tools read, written in one pass and read in one pass, strictly.

    README.txt  FILES…  ledger/leaves-NNNNNNNNN.jsonl…  ledger/checkpoint.txt  manifest.json

Nothing is laid down on a disk to be packed: records go through memory a few megabytes at a time. The manifest is last,
because only then the digests are known. Reading gives nothing back before all of it holds.
"""

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from appliance.actions.backups import manifest as form
from appliance.actions.backups.manifest import BackedUpFile, LedgerPart, Manifest, NeededMedium
from appliance.audit import note
from appliance.audit.copying import LedgerCopy
from appliance.audit.facts import Ledger
from appliance.audit.offline import OfflineLedger
from appliance.errors import BackupDamagedError
from media.clock import SystemClock
from media.digest import sha256_hex
from media.errors import MalformedError, SealiftError

BEGUN: Final = "backup.begun"
README: Final = "README.txt"
_SMALL_BYTES: Final = 512 * 2**20
_PART_TARGET: Final = 4 * 2**20
_PAGE: Final = 500
_TEXT: Final = b"""This is the plaintext of a Sealift backup, format 1. Handle it like the keys that are in it.

manifest.json           what is here, with SHA-256 of each file
ledger/leaves-*.jsonl   the ledger's records in order; cat them together: SHA-256 of a zero byte and a line is its leaf
ledger/checkpoint.txt   the signed head of exactly these records (C2SP signed note, Ed25519; record 0 names the key)
keys/ promoter/         secrets: keyed hashes need keys/, signing in needs promoter/passwords.json
trust/ pinned/          what the box believed; site/ its site file; receipts/ what went back to senders
evidence/               what gates found, by digest
The models and programs are not here. They come from the media that manifest.json names under media.
Restore: sealift backup restore FILE
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A backup that was read to its end and holds.

    Args:
        manifest: Its own list.
        files: The small files by path.
        checkpoint: The signed note.
        signed: What the note says.
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    checkpoint: str
    signed: note.Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is to be written, before the records are read.

    Args:
        site: Whose backup it is.
        environment: Of the site.
        made_at: When.
        files: The small files by path.
        checkpoint: The signed note of the tree whose records follow.
        signed: What the note says.
        serial: The last accepted one.
        media: What the store holds.
    """

    site: str
    environment: str
    made_at: datetime
    files: Mapping[str, bytes]
    checkpoint: str
    signed: note.Checkpoint
    serial: int
    media: tuple[NeededMedium, ...]


def describe(files: Mapping[str, bytes]) -> tuple[BackedUpFile, ...]:
    """Return the list of small files as a manifest has it."""
    return tuple(
        BackedUpFile(path=path, length=len(content), sha256=sha256_hex(content))
        for path, content in sorted(files.items())
    )


def write(stream: IO[bytes], ledger: Ledger, draft: Draft) -> Manifest:
    """Write the whole stream; return the manifest that ends it.

    Raises:
        LedgerUnavailableError: The records could not be read.
        OSError: The stream could not be written.
    """
    parts = []
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, README, _TEXT)
        for path, content in sorted(draft.files.items()):
            _add(tar, path, content)
        for first, lines in _parts(ledger, draft.signed.size):
            content = b"".join(lines)
            _add(tar, form.part_name(first), content)
            parts.append(_part(first, content, len(lines)))
        _add(tar, form.CHECKPOINT, draft.checkpoint.encode())
        manifest = Manifest(
            site=draft.site,
            environment=draft.environment,
            made_at=draft.made_at,
            serial=draft.serial,
            origin=draft.signed.origin,
            size=draft.signed.size,
            root=draft.signed.root.hex(),
            files=describe(draft.files),
            parts=tuple(parts),
            media=draft.media,
        )
        _add(tar, form.NAME, manifest.to_bytes())
    return manifest


def read(stream: IO[bytes], ledger_folder: Path) -> Contents:
    """Read a stream to its end, make the ledger again in a folder, and return the rest once everything holds.

    Args:
        stream: Untrusted: anybody can encrypt to a recipient.
        ledger_folder: Empty; what is in it after an error is worthless and the caller's to remove.

    Raises:
        BackupDamagedError: Anything is missing, more, cut or altered.
        LedgerUnavailableError: The ledger could not be written.
    """
    try:
        with LedgerCopy(ledger_folder) as copy:
            reader = _Reader(copy)
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    reader.take(member, tar)
            contents = reader.conclude()
        _drain(stream)
        _require_recorded(contents, ledger_folder)
    except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
        raise damaged(f"it does not read ({type(error).__name__})") from error
    except BackupDamagedError:
        raise
    except SealiftError as error:
        if isinstance(error, MalformedError) or error.exit_code in {16, 91, 92}:
            raise damaged(f"{error.what}: {error.why}" if error.why else error.what) from error
        raise
    return contents


class _Reader:
    """What is known so far of a stream."""

    def __init__(self, copy: LedgerCopy) -> None:
        self._copy = copy
        self._files: dict[str, bytes] = {}
        self._parts: list[LedgerPart] = []
        self._note = ""
        self._manifest = b""
        self._bytes = 0

    def take(self, untrusted: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        name = untrusted.name
        if not untrusted.isreg() or untrusted.pax_headers or untrusted.sparse is not None:
            raise damaged("it holds something that is not a plain file")
        if self._manifest:
            raise damaged("something follows its manifest")
        if name in self._files or (name == form.CHECKPOINT and self._note):
            raise damaged("a file is in it twice")
        content = self._content(untrusted, tar)
        if name == README:
            return
        if name == form.NAME:
            self._manifest = content
        elif name == form.CHECKPOINT:
            self._note = content.decode()
        elif form.is_part(name) and not self._note:
            self._take_part(name, content)
        elif form.is_file(name) and not self._parts:
            self._bytes += len(content)
            if self._bytes > _SMALL_BYTES:
                raise damaged("its files are larger than a box's can be")
            self._files[name] = content
        else:
            raise damaged("it holds a file that no backup holds, or holds it out of order")

    def conclude(self) -> Contents:
        """Compare everything with the manifest and the signed head."""
        manifest = Manifest.from_bytes(self._manifest)
        if manifest.files != describe(self._files) or manifest.parts != tuple(self._parts):
            raise damaged("what is in it is not what its manifest lists")
        signed = self._copy.conclude(self._note)
        if (manifest.origin, manifest.size, manifest.root) != (signed.origin, signed.size, signed.root.hex()):
            raise damaged("its manifest names another tree than the signed one")
        return Contents(manifest=manifest, files=self._files, checkpoint=self._note, signed=signed)

    def _take_part(self, name: str, content: bytes) -> None:
        lines = content.split(b"\n")
        if lines.pop() or not lines:
            raise damaged("its records are cut")
        first = self._copy.size
        if name != form.part_name(first):
            raise damaged("its records are not in order")
        self._copy.add(lines)
        self._parts.append(_part(first, content, len(lines)))

    def _content(self, untrusted: tarfile.TarInfo, tar: tarfile.TarFile) -> bytes:
        most = {form.NAME: form.MOST_BYTES, README: 2**16, form.CHECKPOINT: 2**16}.get(untrusted.name, form.FILE_BYTES)
        if not 0 <= untrusted.size <= most:
            raise damaged("a file in it is larger than it can be")
        opened = tar.extractfile(untrusted)
        content = b"" if opened is None else opened.read(untrusted.size + 1)
        if len(content) != untrusted.size:
            raise damaged("it is cut")
        return content


def _parts(ledger: Ledger, size: int) -> Iterator[tuple[int, list[bytes]]]:
    first, lines, length, done = 0, [], 0, 0
    while done < size:
        page = ledger.leaves(done, min(_PAGE, size - done))
        if not page:
            break
        for leaf in page:
            lines.append(leaf.raw + b"\n")
            length += len(leaf.raw) + 1
            done += 1
            if length >= _PART_TARGET:
                yield first, lines
                first, lines, length = done, [], 0
    if lines:
        yield first, lines


def _require_recorded(contents: Contents, ledger_folder: Path) -> None:
    """Refuse small files that the newest record of a backup in the signed tree does not name."""
    found = OfflineLedger.of_folder(ledger_folder, clock=SystemClock()).find(kind=BEGUN, limit=1)
    if not found or found[0].body.get("files_sha256") != form.files_sha256(contents.manifest.files):
        raise damaged("its files are not those that the ledger names")


def _part(first: int, content: bytes, count: int) -> LedgerPart:
    return LedgerPart(
        path=form.part_name(first), length=len(content), sha256=sha256_hex(content), first=first, count=count
    )


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o600
    tar.addfile(entry, io.BytesIO(content))


def _drain(stream: IO[bytes]) -> None:
    """Read what pads the end: whoever writes into the pipe must be able to finish."""
    while chunk := stream.read(2**16):
        if chunk.strip(b"\0"):
            raise damaged("something follows its end")


def damaged(why: str) -> BackupDamagedError:
    """Return the refusal of a backup."""
    return BackupDamagedError(
        what="the backup does not hold", why=why, fix="use another backup; nothing was restored from this one"
    )
