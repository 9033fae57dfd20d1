"""Whose the key is that the web server shows: root's to write, its group's to read, and nobody else's (ADR 85).

The web server is www-data from its first moment, so it reads the key at its start and at each rotation as that group.
Its workers had the same bytes in their memory when its master was still root.

Promises: the bytes are never under their name with more rights than these; a key that lies there otherwise, as a
release before left it, is written anew beside itself and takes its own place by one rename. Where the group cannot be
given (a demo of a person who is not root, a machine without it), the key is for its owner alone.
"""

import grp
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.errors import InstallError
from media import durable

GROUP: Final = "www-data"
_OWNER: Final = 0
MODE: Final = 0o640
ALONE: Final = 0o400
"""The mode of a key that is shown to nobody: authorities', and one that waits for its certificate."""


def put(path: Path, pem: bytes) -> None:
    """Put the key in place with the rights that it has to have.

    Raises:
        InstallError: It could not be given to the web server's group; what lay there before is as it was.
    """
    if (wanted := _given()) is None:
        durable.replace(path, pem, mode=ALONE)
        return
    # Named as a key, also while it is written: what is retired with the box finds it by that.
    beside = path.with_name(f".{path.stem}.given.key")
    try:
        durable.replace(beside, pem, mode=ALONE)
        # A unit without this right makes its files as this group (sealift-tls@).
        if beside.stat().st_gid != wanted:
            os.chown(beside, -1, wanted)
        beside.chmod(MODE)
        beside.replace(path)
    except PermissionError as error:
        raise InstallError(
            what="the web server's key could not be given to its group",
            why=error.strerror or type(error).__name__,
            fix=f"run `sealift tls rotate` as root; the group is {GROUP}",
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    durable.sync_folder(path.parent)


def mend(kept: Path) -> bool:
    """Give every kept key the rights that it has to have; tell whether one lacked them. For root.

    Args:
        kept: The folder of pairs.

    Raises:
        InstallError: As `put`.
    """
    if _given() is None:
        return False
    given = False
    for key in sorted(kept.glob("*/server.key")):
        with suppress(PermissionError):  # root without a right, and another's file: the doctor tells of it
            if wrong(key):
                put(key, key.read_bytes())
                given = True
    return given


def wrong(key: Path) -> str:
    """Return what is wrong with a key: it is absent, or its owner, group or mode; nothing where all is well."""
    try:
        found = key.stat()
    except OSError as error:
        return f"it cannot be found: {error.strerror}"
    is_good = (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (_OWNER, group(), MODE)
    return "" if is_good else f"{_named(found)}, and has to be root:{GROUP} {MODE:04o}"


def group() -> int | None:
    """Return the number of the web server's group; nothing where this machine has none."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def _given() -> int | None:
    return group() if os.geteuid() == _OWNER else None


def _named(found: os.stat_result) -> str:
    owner, of = str(found.st_uid), str(found.st_gid)
    with suppress(KeyError):  # told by number
        owner, of = pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name
    return f"{owner}:{of} {stat.S_IMODE(found.st_mode):04o}"
