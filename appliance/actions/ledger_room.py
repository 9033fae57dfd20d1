"""How it stands with the room that is kept for the ledger, for monitoring and for doctor."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.actions.filesystems import LEDGER
from appliance.actions.findings import Finding
from appliance.audit import room
from appliance.audit.exclusive import file_system_of
from appliance.audit.reserve import UNSURE
from appliance.audit.rights import METRICS, OPERATOR
from appliance.config import Config
from media.errors import SealiftError

_MIB: Final = 2**20
_MOUNTS: Final = Path("/proc/self/mountinfo")


def numbers(config: Config) -> Iterator[tuple[str, float, Mapping[str, str]]]:
    """Yield what monitoring is told: name, number, labels; nothing where the records lie on a database server.

    A file system of the ledger's own is told here as others are: whoever reads numbers may not look there.

    Raises:
        WireError: The ledger does not answer.
    """
    found = room.asked(config.at.socket(METRICS))
    if found is not None:
        yield "sealift_ledger_closing", found.closing, {}
        yield "sealift_ledger_reserve_bytes", found.held, {}
        yield "sealift_ledger_reserve_wanted_bytes", found.wanted, {}
        if found.apart:
            yield "sealift_disk_size_bytes", found.size, {"place": LEDGER}
            yield "sealift_disk_available_bytes", found.free, {"place": LEDGER}


def findings(config: Config, mounts: Path = _MOUNTS) -> Iterator[Finding]:
    """Whether the ledger has what it needs to close things on a full disk; nothing while it does not answer."""
    found = None
    with suppress(SealiftError):  # that the ledger is away is another finding
        found = room.asked(config.at.socket(OPERATOR))
    if found is None:
        return
    kind = file_system_of(config.at.ledger.resolve(), mounts.read_text())
    text = f"{found.held // _MIB} of {found.wanted // _MIB} MiB kept for the ledger, {found.free // _MIB} MiB free"
    why = "on a full disk outcomes and what people do to help are recorded out of it; without it there is no record"
    if found.closing:
        text, why = f"{text}: nothing new begins", f"the disk of the {'ledger' if found.apart else 'state'} is full"
    is_whole = found.held >= found.wanted and not found.closing
    if is_whole and kind in UNSURE:
        text = f"{text}; {kind} copies on write, so room given back may not be room to write: no promise there"
    yield Finding(
        name="ledger reserve",
        is_good=None if is_whole and kind in UNSURE else is_whole,
        text=text,
        why=why,
        fix="make the ledger's own file system larger, or take away what does not belong there; it goes on by itself"
        if found.apart
        else "make room on the disk of the state: `sealift models delete`, older backups; it goes on by itself",
    )
