"""How many files a gateway may have open: a connection is one, and systems give a process 1,024 where nobody says more.

Sealift's units say it themselves (LimitNOFILE=); elsewhere (`sealift run-units`, pods) the process asks for it.
"""

import resource
from contextlib import suppress


def allow_files(needed: int) -> None:
    """Let this process, and what it begins from now on, have so many files open, or as many as the system lets it."""
    with suppress(OSError, ValueError):  # refused, as by a unit's filter: it serves as well, fewer callers at once
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
