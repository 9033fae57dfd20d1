"""GnuPG homes with short names, and no agent left behind.

gpg puts its agent's socket into the home folder, and a socket's path has at most 107 bytes: a home deep in a work
folder would fail with an unclear message. `short_home` lends a short name for a home, and ends the agent that gpg
started for it unless one was running before.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bundler.errors import SigningError
from media.gpgagent import stop_agents

_LONGEST = 70
"""Leaves room for the longest socket name, `/S.gpg-agent.browser`, under 100 bytes."""


@contextmanager
def short_home(home: Path) -> Iterator[Path]:
    """Lend a name for `home` short enough for an agent's socket; its agent ends with the block.

    Raises:
        SigningError: The folder is not there.
    """
    if not home.is_dir():
        raise SigningError(
            what="there is no GnuPG home for this person",
            why="the folder does not exist on this machine",
            fix="name it with --home",
        )
    real = home.resolve()
    if len(bytes(real)) <= _LONGEST:
        ours = not _agent_runs(real)
        try:
            yield real
        finally:
            if ours:
                stop_agents(real)
        return
    lent = Path(tempfile.mkdtemp(prefix="sl-", dir="/tmp"))
    short = lent / "h"
    short.symlink_to(real)
    ours = not _agent_runs(short)
    try:
        yield short
    finally:
        if ours:
            stop_agents(short)
        shutil.rmtree(lent)


@contextmanager
def short_homes(homes: list[Path]) -> Iterator[list[Path]]:
    """Lend short names for several homes at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(short_home(home)) for home in homes]


def _agent_runs(home: Path) -> bool:
    """Tell whether an agent serves this home already, perhaps with a token and a person's typed PIN."""
    asked = ["gpg-connect-agent", "--homedir", str(home), "--no-autostart", "--quiet", "/bye"]
    done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return b"no gpg-agent running" not in done.stderr
