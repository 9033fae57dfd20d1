"""GnuPG's agent: how it learns where a person sits, and how it is ended. Nothing here comes near a key itself."""

import os
import select
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

_END_SECONDS: Final = 30


def terminal() -> dict[str, str]:
    """Return the variable that names the terminal at which a person sits; nothing where nobody does.

    The agent runs apart from whoever asks gpg, and asks for passphrases and PINs there.
    """
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            return {"GPG_TTY": os.ttyname(descriptor)}
    return {}


def stop_agents(home: Path) -> None:
    """End the GnuPG agents that serve this key folder, if any, and return when they have: the folder may go then.

    One that does not end is waited for half a minute.
    """
    if not home.is_dir():
        return
    agent = _agent(home)
    told = ["gpgconf", "--homedir", str(home), "--kill", "all"]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(told, check=False, capture_output=True, timeout=_END_SECONDS)
    if agent is None:
        return
    # It says yes first, and takes its sockets away by this name of the folder afterwards.
    try:
        ended = select.poll()
        ended.register(agent, select.POLLIN)
        ended.poll(_END_SECONDS * 1000)
    finally:
        os.close(agent)


def _agent(home: Path) -> int | None:
    """Return a descriptor of the agent's process, readable when it has ended; nothing where none runs."""
    asked = ["gpg-connect-agent", "--homedir", str(home), "--no-autostart", "GETINFO pid", "/bye"]
    told = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout.split()
    if told[:1] != [b"D"]:
        return None
    try:
        return os.pidfd_open(int(told[1]))
    except ProcessLookupError:  # it ended meanwhile
        return None
