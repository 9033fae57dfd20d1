"""Looks at a medium that arrived, as the user that receives, and records that it came.

Entry point: ``python -I -m appliance.actions.arriving --config FILE NAME``, by sealift-inspect@NAME. What the medium
claims is kept for people to read, in the fields of `sealift inspect`; nothing is decided by it but that a Sealift
volume is never written to. The ledger gets numbers and digests, no label and no other words of the medium.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from appliance import config as configuration
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.audit.rights import ACTIONS
from appliance.config import Config
from appliance.install import arrivals
from appliance.install.arrivals import Arrival
from appliance.verify.inspect import inspect
from appliance.verify.medium import Medium
from media import layout
from media.clock import SystemClock
from media.errors import SealiftError

ARRIVED: Final = "medium.arrived"
REFUSED: Final = "medium.refused"
_NO_VOLUME: Final = "it is no Sealift volume"


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at one medium; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sealift-inspect")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("name")
    options = parser.parse_args(arguments)
    try:
        config = configuration.load(options.config)
        arrival = arrivals.arrived(config.at, options.name)
        ledger = open_ledger(config, ACTIONS, clock=SystemClock())
        try:
            look(config, arrival, ledger)
        finally:
            ledger.close()
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    return 0


def look(config: Config, arrival: Arrival, ledger: Ledger) -> None:
    """Keep what a medium claims, and record that it arrived or was refused.

    Raises:
        LedgerUnavailableError: It could not be recorded; what it claims is kept all the same.
    """
    if not arrival.is_mounted:
        ledger.append(REFUSED, recorded(arrival, None))
        return
    claims, problem = claimed(config.at.media / arrival.name, label=f"medium {arrival.name}")
    try:
        arrivals.keep_inspected(config.at, arrival, claims=claims, problem=problem)
    finally:  # that it came is recorded, whatever it claims and whether that can be kept
        ledger.append(ARRIVED, recorded(arrival, claims))


def claimed(folder: Path, *, label: str) -> tuple[Mapping[str, Any] | None, str]:
    """Return what the medium mounted at `folder` claims, or why it is no volume.

    A medium that has the folder of a release but cannot be read as one counts as a volume with a problem.
    """
    try:
        with Medium.open(folder, label=label) as medium:
            return inspect(medium), ""
    except SealiftError as error:
        problem = f"{error.what}: {error.why}"
    try:
        (folder / layout.RELEASE).lstat()  # by its name: a made folder may hold millions of others
    except FileNotFoundError:
        return None, _NO_VOLUME
    except OSError:
        pass
    return {"problems": [problem]}, problem


def recorded(arrival: Arrival, claims: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the record's body: what was measured, and digits that a volume claims."""
    body: dict[str, Any] = {
        "medium": arrival.name,
        "stay": arrival.id,
        "filesystem": arrival.filesystem,
        "bytes": arrival.bytes,
        "volume": claims is not None,
    }
    serial = None if claims is None else claims.get("untrusted_serial")
    return {**body, "untrusted_serial": serial} if isinstance(serial, int) else body


if __name__ == "__main__":
    raise SystemExit(main())
