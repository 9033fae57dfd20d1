"""What the operating system says about a store that cannot be written, in our words."""

import contextlib
import errno
from collections.abc import Iterator

from appliance.errors import NoSpaceError, StoreWriteError
from media.errors import SealiftError


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn the operating system's refusals to write into ours.

    Raises:
        NoSpaceError: The file system or the quota is full.
        StoreWriteError: Anything else.
    """
    try:
        yield
    except SealiftError:
        raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpaceError(
                what="the store is full",
                why=f"no room for {what}",
                fix="make room (`sealift status` shows what uses it), then receive again: what was stored is kept",
            ) from error
        raise StoreWriteError(
            what=f"the store cannot be written ({what})",
            why=error.strerror or type(error).__name__,
            fix="check the disk and the unit's rights, then receive again",
        ) from error
