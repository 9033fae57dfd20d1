"""What the processes of our gateway hold after many answers, by what they held after a tenth of these.

`bench.gateway` measures it, and a test of the slow tier watches it. The gateway and the ledger are the real processes;
the engine behind them costs nothing (`bench.mock_engine`).
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench import asking
from bench.asking import Contestant
from bench.measuring import ROOT
from bench.notes import notes
from tests.support.engine import MODEL_DIGEST
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server

MOST_GROWTH: Final = 1.05


def limits(*, together: int) -> str:
    """Return the site file's limits with which nobody is refused while so many ask at once."""
    return f"requests_per_minute = 100000000\nconcurrent_requests = {together}\ntokens_per_day = 1000000000000"


def contestant(server: Server) -> Contestant:
    """Return our gateway as somebody to ask; its ledger is counted where it is a process of its own."""
    ledger = () if server.ledger is None else (server.ledger.pid,)
    return Contestant(
        name="ours",
        port=int(server.url.rpartition(":")[2]),
        model=MODEL,
        key=server.key,
        pids=(server.process.pid, *ledger),
    )


@contextmanager
def costless_engine(server: Server, *, port: int = 0) -> Iterator["subprocess.Popen[bytes]"]:
    """Put the engine that costs nothing in the place of the one that the site began with.

    Args:
        server: The gateway that asks it.
        port: Of loopback, where it answers as well; 0 for any.

    Raises:
        SystemExit: It does not begin.
    """
    path = server.site.places.socket(f"engine-production-{MODEL_DIGEST[:12]}")
    path.unlink()
    command = [sys.executable, "-m", "bench.mock_engine", str(path), str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise SystemExit("the engine does not begin")
            yield process
        finally:
            process.kill()


def resident(ours: Contestant, answers: int, *, callers: int) -> tuple[int, int]:
    """Return the bytes that its processes hold after a tenth of so many answers, and after all of them.

    What is asked are clinical notes, whose identifiers are replaced; every other answer is streamed.

    Raises:
        SystemExit: A request was not answered.
    """
    tenth = max(answers // 10, callers)
    texts = [one.text for one in notes("dev")]
    asking.together(ours, tenth, callers=callers, texts=texts, streamed=True)
    early = ours.resident_bytes()
    asking.together(ours, answers - tenth, callers=callers, texts=texts, streamed=True)
    return early, ours.resident_bytes()
