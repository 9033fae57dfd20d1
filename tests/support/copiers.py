"""The very copier that a receive starts, as a process to be killed, starved and lied to."""

import json
import subprocess
from pathlib import Path
from typing import Any

from appliance.actions import copying
from appliance.store.copier import Job
from tests.support.medium import SimulatedMedium
from tests.support.receiving import terms_for


def start(medium: SimulatedMedium, store: Path) -> subprocess.Popen[bytes]:
    """Start it on a medium; `finish` it."""
    job = Job(volumes=tuple(map(str, medium.volumes)), store=str(store), terms=terms_for(medium), full=False, lock=None)
    process = subprocess.Popen(
        copying._command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/"
    )
    assert process.stdin is not None
    process.stdin.write(job.to_bytes())
    process.stdin.close()
    return process


def finish(process: subprocess.Popen[bytes]) -> tuple[int, list[dict[str, Any]]]:
    """Wait for its end; return its exit code and its lines."""
    assert process.stdout is not None
    with process:
        lines = [json.loads(line) for line in process.stdout]
    return process.returncode, lines
