"""Writes one EXPORT to a medium that is marked for that: the only thing that is ever written to a medium.

Entry point: ``python -I -m appliance.actions.carrying --config FILE check|write NAME``, by sealift-export@NAME. That
unit mounts the medium for writing between the two steps and read-only again after them. Which export it is, and how the
medium is mounted, the job service says. It runs as a user of its own.

Rules: the medium's label is SEALIFT-OUT and it is no Sealift volume; the export is of the closed list and in the
ledger; its file is new on the medium, and read back; what leaves is recorded before the first byte is written.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance import config as configuration
from appliance.actions.export_types import TYPES, ExportType, require_type
from appliance.actions.exporting import RECORDED
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.audit.rights import ACTIONS
from appliance.config import Config
from appliance.errors import ExportRefusedError, JobRefusedError, StoreWriteError
from appliance.install import arrivals, exported, jobrights
from appliance.install.arrivals import Arrival
from appliance.install.jobclient import JobsClient
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Kind
from appliance.install.telling import Teller
from media import canonical
from media.clock import SystemClock
from media.digest import sha256_hex
from media.errors import SealiftError

CARRIED: Final = "export.carried"
SKIPPED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What goes where.

    Args:
        file: The export's file.
        raw: Its bytes.
        kind: Its type.
        digest: The content's, as the ledger has it.
    """

    file: Path
    raw: bytes
    kind: ExportType
    digest: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one step, and tell the job service how it ended; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sealift-export")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("step", choices=("check", "write"))
    parser.add_argument("name")
    options = parser.parse_args(arguments)
    try:
        config = configuration.load(options.config)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return SKIPPED
    try:
        name = arrivals.require_name(options.name)
        ledger = open_ledger(config, ACTIONS, clock=SystemClock())
        try:
            load, arrival = chosen(config, ledger, name, asked(config, name))
            if options.step == "check":
                return 0
            write(config.at.export_medium, load, arrival, ledger)
        finally:
            ledger.close()
    except SealiftError as error:
        Teller(config).outcome(Outcome.of_error(error))
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return SKIPPED if options.step == "check" else error.exit_code
    Teller(config).outcome(Outcome(ok=True, digest=load.digest, changed=True))
    return 0


def asked(config: Config, name: str) -> str:
    """Return the digest of the export that the running job is about.

    Raises:
        JobRefusedError: No such job runs: this unit is started by the job service alone.
    """
    jobs = JobsClient.open(config, jobrights.RECEIVE)
    try:
        for one in jobs.jobs():
            if (one["kind"], one.get("medium"), one["state"]) == (str(Kind.CARRY_EXPORT), name, "running"):
                return canonical.sha256_hex(one["digest"], "job.digest")
    finally:
        jobs.close()
    raise JobRefusedError(what="nobody asked for this", why="no such job runs", fix="use `sealift media export`")


def chosen(config: Config, ledger: Ledger, name: str, digest: str) -> tuple[Load, Arrival]:
    """Return the export and the medium, both checked again.

    Raises:
        JobRefusedError: The medium is not marked for EXPORTs, or the export was not made here.
        ExportRefusedError: The file is no export of the closed list.
    """
    shown = arrivals.shown(config.at, name)
    if not shown.may_take_exports:
        raise JobRefusedError(
            what=f"{name} takes no EXPORT",
            why=f"its label is not {arrivals.EXPORT_LABEL}, or it is a Sealift volume",
            fix="see docs/operator/arriving.md",
        )
    exported.require_writable(shown.arrival)
    file = exported.find(config.at, digest)
    raw = file.read_bytes()
    content, payload_type = exported.content_of(raw)
    kind = _type_of(ledger, digest)
    if TYPES[kind].payload_type != payload_type:
        raise ExportRefusedError(what="this may not leave", why="it is of another type than recorded", fix="report it")
    require_type(kind, content)
    return Load(file=file, raw=raw, kind=kind, digest=digest), shown.arrival


def write(folder: Path, load: Load, arrival: Arrival, ledger: Ledger) -> None:
    """Record that an export leaves, write it, and read it back.

    Raises:
        LedgerUnavailableError: It could not be recorded; nothing was written.
        StoreWriteError: It could not be written, or another file of its name is there.
    """
    body: dict[str, Any] = {
        "type": str(load.kind),
        "sha256": load.digest,
        "file_sha256": sha256_hex(load.raw),
        "medium": arrival.name,
        "stay": arrival.id,
        "filesystem": arrival.filesystem,
    }
    ledger.append(CARRIED, body)
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _put(place, load.file.name, load.raw)
        finally:
            os.close(place)
    except OSError as error:
        raise StoreWriteError(
            what=f"the {load.kind} could not be written to the medium",
            why=error.strerror or "",
            fix="take another medium; that it was to leave is recorded",
        ) from error


def _put(place: int, name: str, raw: bytes) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        opened = os.open(name, flags, 0o644, dir_fd=place)
    except FileExistsError:
        # Carried before: the same bytes are as good as new ones.
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
        with os.fdopen(opened, "rb") as there:
            if there.read(len(raw) + 1) != raw:
                raise
        return
    try:
        with os.fdopen(opened, "r+b") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
            os.fsync(place)
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # memory remembers what no stick keeps
        again = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        with os.fdopen(again, "rb", buffering=0) as stream:
            if stream.readall() != raw:
                raise OSError(0, "what was read back is not what was written")
    except OSError:
        with suppress(OSError):  # what is torn would keep the whole one from this medium
            os.unlink(name, dir_fd=place)
        raise


def _type_of(ledger: Ledger, digest: str) -> ExportType:
    found = ledger.find(kind=RECORDED, field="sha256", value=digest, limit=1)
    kinds = [one for one in ExportType if found and str(one) == found[0].body.get("type")]
    if not kinds:
        raise JobRefusedError(
            what=f"no EXPORT {digest[:12]} is recorded", why="nothing leaves unrecorded", fix="make it again"
        )
    return kinds[0]


if __name__ == "__main__":
    raise SystemExit(main())
