"""A gateway keeps all its threads on one core: under one interpreter lock they use no more than that anyway.

Where they may run on several, a thread that lets go of the lock for a moment wakes the next one on another core, and
waits for it when it comes back; where they share one, it mostly goes on before the other has begun.
"""

import os
from collections.abc import Mapping

from appliance.unit import CORE


def keep_to_one_core(environ: Mapping[str, str] = os.environ) -> int | None:
    """Keep this thread, and all that it begins from now on, on the core that the unit names; return which.

    The unit of the first gateway names the core that those of engines leave (CPUAffinity=). None, and nothing changes,
    where none is named, where it is not among those that this process may use, and where the kernel refuses: it serves
    as well there, for more of a processor.
    """
    named = environ.get(CORE, "")
    allowed = {str(core): core for core in os.sched_getaffinity(0)}
    if named not in allowed:
        return None
    try:
        os.sched_setaffinity(0, {allowed[named]})
    except OSError:
        return None
    return allowed[named]
