"""Reads the GPUs every few seconds and tells the gateways, which are shut off from every device.

Entry point of `sealift-gpus`: ``python -I -m appliance.gateway.gpuunit --config FILE``. Where the driver's own tool is
missing there is nothing to do, and it ends well.

Promises: it takes nothing from anybody but that tool; what it tells is replaced as a whole, and withdrawn at its end.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance import config as configuration
from appliance import unit
from appliance.config import Places
from appliance.errors import StoreWriteError
from appliance.registry import gpufigures, gpus
from appliance.registry.gpufigures import GpuFigures
from media.clock import SystemClock
from media.errors import SealiftError

LOOK_SECONDS: Final = 10.0
_log = logging.getLogger("gpus")


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell until SIGTERM; return the exit code."""
    unit.begin()
    parser = argparse.ArgumentParser(prog="sealift-gpus")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)
    done = unit.Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    try:
        places = configuration.load(options.config).at
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    read = gpus.open_reader()
    if read is gpus.no_gpus:
        unit.notify("READY=1")
        _log.info("nvidia-smi is not installed: nothing is told of GPUs")
        return 0
    try:
        state = _tell(read, places)
        # Whoever waits for this unit finds the first figures.
        unit.notify("READY=1")
        unit.notify(state)
        while not done.wait(LOOK_SECONDS):
            unit.notify(_tell(read, places))
        unit.notify("STOPPING=1")
        gpufigures.withdraw(places)
    except OSError as error:
        _log.error("the figures cannot be written (%s)", error.strerror)
        return StoreWriteError.exit_code
    return 0


def _tell(read: gpus.GpuReader, places: Places) -> str:
    """Read once, show what was read, and return what systemd is told of it."""
    figures = GpuFigures.of(read(), clock=SystemClock())
    gpufigures.publish(places, figures)
    return f"STATUS={len(figures.gpus)} GPUs\nWATCHDOG=1"


if __name__ == "__main__":
    raise SystemExit(main())
