"""A probe of this machine as an EXPORT: the file that `sealift-probe.sh` wrote here, read strictly, shown, recorded.

The probe runs anywhere with a shell and shows itself before it is written; what it wrote leaves a box only this way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions import exporting
from appliance.actions.export_types import TYPES, ExportType
from appliance.actions.exporting import Export, Written
from appliance.audit.client import open_ledger
from appliance.config import Config
from appliance.keys.opening import open_keys
from media.clock import Clock
from media.errors import UsageError

_DOOR: Final = "ledger-actions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A probe's bytes; a probe carries no proof, so that the sender reads it like one of a machine without a box."""

    content: bytes

    def to_payload(self, *, ledger: Mapping[str, Any] | None) -> bytes:  # noqa: ARG002 - the seam of all exports
        """Return the bytes as they are."""
        return self.content


def export(config: Config, probe: Path, folder: Path, *, clock: Clock, agrees: Callable[[str], bool]) -> Written | None:
    """Show a probe in full, record it and write it; None when the person did not agree.

    Raises:
        UsageError: The file cannot be read.
        ExportRefusedError: It is no probe, or holds what may not leave.
        LedgerUnavailableError: It could not be recorded; nothing was written.
        StoreWriteError: It could not be written.
    """
    try:
        with probe.open("rb") as source:
            content = source.read(TYPES[ExportType.PROBE].most_bytes + 2).removesuffix(b"\n")
    except OSError as error:
        raise UsageError(
            what=f"the probe {probe.name} cannot be read", why=error.strerror or "", fix="name the file it wrote"
        ) from error
    ledger = open_ledger(config, _DOOR, clock=clock)
    try:
        made = Export(
            kind=ExportType.PROBE, site=config.site, name=f"probe-{config.site}", draft=Probe(content=content)
        )
        return exporting.write(made, folder, ledger=ledger, keys=open_keys(config), agrees=agrees)
    finally:
        ledger.close()
