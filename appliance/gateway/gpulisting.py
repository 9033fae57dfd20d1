"""Prints the GPUs that the gateway's reader sees, as one JSON array, for `sealift gpus`.

Run as ``python -I -m appliance.gateway.gpulisting``; takes nothing, and tells nothing but figures.
"""

import sys
from dataclasses import asdict

from appliance.gateway.gpus import GpuReader, open_reader
from media import canonical


def listing(read: GpuReader) -> bytes:
    """Return what a reader sees now."""
    return canonical.dumps([asdict(gpu) for gpu in read()], allow_floats=True)


if __name__ == "__main__":
    sys.stdout.buffer.write(listing(open_reader()))
