"""The pinned root's file, written once, and files that are read before anybody trusts where they lie."""

import os
import stat
from pathlib import Path

from appliance.config import Places
from appliance.errors import ConflictError
from appliance.store.writing import writing
from appliance.verify.kept import pinned_name
from media import durable
from media.errors import LimitExceededError, MissingFileError, NoTrustError, UnsafePathError


def plain_bytes(
    path: Path, what: str, *, limit: int, fix: str = "give the path of the file itself, as this user may read it"
) -> bytes:
    """Return a plain file's bytes; what lies on a medium that nobody trusts yet may be anything.

    Args:
        path: The file.
        what: What it is, for errors.
        limit: The most bytes it may have.
        fix: What to do where it cannot be read.

    Raises:
        LimitExceededError: It is too large.
        MissingFileError: It is not there, is a link, or cannot be read.
        UnsafePathError: It is no plain file.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            is_plain = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
            untrusted = stream.read(limit + 1) if is_plain else b""
    except OSError as error:
        raise MissingFileError(what=f"{what} cannot be read", why=error.strerror or "", fix=fix) from error
    if not is_plain:
        raise UnsafePathError(
            what=f"{what} is no plain file", why="it is a folder, a pipe or a device", fix="do not use this medium"
        )
    if len(untrusted) > limit:
        raise LimitExceededError(
            what=f"{what} is too large", why=f"more than {limit} bytes", fix="do not use this medium"
        )
    return untrusted


def is_pinned(places: Places, root: bytes, *, epoch: int = 1) -> bool:
    """Tell whether this very root is pinned for an epoch; refuse when another is.

    Raises:
        ConflictError: Another is.
        NoTrustError: What is pinned cannot be read.
    """
    try:
        found = (places.pinned_trust / pinned_name(epoch)).read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise NoTrustError(
            what="the pinned root cannot be read", why=error.strerror or "", fix="check the file with root's rights"
        ) from error
    if found != root:
        raise ConflictError(
            what="another root is pinned on this machine",
            why="a pinned root is never written again",
            fix="a new root comes by rotation, signed by the people of the old one",
        )
    return True


def write_once(places: Places, root: bytes, *, epoch: int = 1) -> None:
    """Pin the root for an epoch, unless someone was faster with the very same one.

    Raises:
        ConflictError: Someone was faster with another.
        StoreWriteError: It could not be written.
    """
    place = places.pinned_trust / pinned_name(epoch)
    with writing("the pinned root"):
        places.pinned_trust.mkdir(parents=True, exist_ok=True, mode=0o755)
        beside = place.with_name(f".{place.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        durable.write_new(beside, root)
        beside.chmod(0o444)
        try:
            os.link(beside, place)
        except FileExistsError:
            is_pinned(places, root, epoch=epoch)
        finally:
            beside.unlink()
        durable.sync_folder(places.pinned_trust)
