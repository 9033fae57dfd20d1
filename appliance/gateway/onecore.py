"""A gateway keeps all its threads on one core: under one interpreter lock they use no more than that anyway.

Where they may run on several, a thread that lets go of the lock for a moment wakes the next one on another core, and
waits for it when it comes back; where they share one, it mostly goes on before the other has begun.
"""

import os
from collections.abc import Mapping
from typing import Final

NUMBER: Final = "SEALIFT_GATEWAY_NUMBER"
"""Which of a box's gateways this is, from 1, as its unit says; without it a gateway runs wherever there is room."""


def keep_to_one_core(environ: Mapping[str, str] = os.environ) -> int | None:
    """Keep this thread, and all that it begins from now on, on the core of the gateway's number; return which.

    The first gateway has the first core that its unit may use, which is the one that engines leave (CPUAffinity= of
    their units), the second the next, and so on round. None, and nothing changes, where the environment gives no
    number, where there is but one core, and where the kernel refuses: it serves as well there, for more of a processor.
    """
    number = environ.get(NUMBER, "")
    if not (number.isascii() and number.isdigit() and int(number)):
        return None
    cores = sorted(os.sched_getaffinity(0))
    chosen = cores[(int(number) - 1) % len(cores)]
    try:
        os.sched_setaffinity(0, {chosen})
    except OSError:
        return None
    return chosen if len(cores) > 1 else None
