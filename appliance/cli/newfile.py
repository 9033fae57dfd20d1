"""Files that commands write where somebody names them: never over one that is there."""

from pathlib import Path
from typing import Final

from appliance.errors import StoreWriteError
from media import durable

_FIX: Final = "make room, or name another file"


def write_new(file: Path, content: bytes, *, fix: str = _FIX) -> None:
    """Write a file that is not there yet.

    Raises:
        StoreWriteError: It is there, or cannot be written.
    """
    try:
        durable.write_new(file, content)
    except OSError as error:
        raise StoreWriteError(what=f"{file.name} cannot be written", why=error.strerror or "", fix=fix) from error
