"""Appends to a site's ledger until told how many, and says what was acknowledged: a program for tests that break it.

``python -m tests.support.appending CONFIG PREFIX GROUPS``. Each line of stdout is one acknowledgement: the request,
its sequence, its hash. A group that was not acknowledged is sent once more, under the same keys. Exit 90 says that the
ledger must be opened anew, as its service would.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from appliance import config as configuration
from appliance.audit.facts import Appended
from appliance.audit.leaf import Via
from appliance.audit.log import Entry
from appliance.audit.opening import open_log
from appliance.audit.room import Room
from appliance.audit.writer import Writer
from appliance.errors import LedgerUnavailableError
from appliance.keys.files import FileKeys
from media.clock import SystemClock
from media.errors import SealiftError
from tests.support.ledger import intent

IN_GROUP = 3


def main(arguments: Sequence[str]) -> int:
    """Append; return the exit code."""
    config = configuration.load(Path(arguments[0]))
    prefix, groups = arguments[1], int(arguments[2])
    failed: list[bool] = []
    room = Room.of(config)
    try:
        if room is not None:
            room.prepare()
        with open_log(config, keys=FileKeys(config.at.key_files), clock=SystemClock()) as log:
            writer = Writer(log, on_failure=lambda: failed.append(True), room=room)
            writer.start()
            for number in range(groups):
                entries = [_entry(f"{prefix}_{number}_{one}") for one in range(IN_GROUP)]
                for _ in range(2):
                    for entry, outcome in zip(entries, writer.append(entries), strict=True):
                        if isinstance(outcome, Appended):
                            print(entry.retry, outcome.sequence, outcome.leaf_hash, flush=True)
                    if failed:
                        return LedgerUnavailableError.exit_code
            writer.stop()
            log.checkpoint()
    except SealiftError as error:
        return error.exit_code
    return 0


def _entry(request: str) -> Entry:
    body = intent(request, text=request * 40)
    return Entry.of("request.intent", body, via=Via(door="ledger-gateway", uid=0), key=request)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
