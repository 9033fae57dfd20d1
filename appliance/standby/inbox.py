"""What a paired box sends over the network lies here until root's timer proves it: nothing is opened, nothing believed.

One bundle for each peer at a time, in files of bounded size; an unfinished one is begun anew by its first part.

    have{}                                   -> {size,root} how many records of the caller the mirror here holds; the
                                                           root over them, empty where it is not known
    put{name,offset,data}                    -> {size}     appends to an unfinished file; offset 0 begins it
    done{}                                   -> {taken}    envelope and leaves are there: the timer may look
"""

import base64
import binascii
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from appliance.errors import WireError
from appliance.standby.bundle import ENVELOPE_NAME, EVIDENCE_NAME, LEAVES_NAME
from appliance.standby.card import require_name
from media import canonical
from media.durable import sync_folder

MOST_BYTES: Final = 256 * 2**20
HAVE: Final = "have"
ROOT: Final = "root"
_MESSAGES: Final = frozenset({"have", "put", "done"})
_NAMES: Final = (ENVELOPE_NAME, LEAVES_NAME, EVIDENCE_NAME)
_MOST_DATA: Final = 2 * 2**20


class Inbox:
    """By peer: `NAME/` in the making, `NAME.ready/` to be taken in; `NAME.have` and `NAME.root` by who took in.

    Who takes in is root without a right of root's, as one of this folder's group: it reads, and removes what it took.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with suppress(OSError):  # nothing was ever sent; what an earlier release laid down was for its user alone
            self._let_group_in(folder)
            for ready in folder.glob("*.ready"):
                self._let_group_in(ready)

    @staticmethod
    def knows(untrusted: Mapping[str, Any]) -> bool:
        """Tell whether this message is for the inbox."""
        return untrusted.get("do") in _MESSAGES

    def handle(self, peer: str, untrusted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer one message.

        Raises:
            MalformedError: A field is of another shape.
            WireError: The parts do not follow each other, are too many bytes, or cannot be written.
        """
        require_name(peer)
        try:
            if untrusted.get("do") == "have":
                return self._have(peer)
            if untrusted.get("do") == "put":
                return {"size": self._put(peer, untrusted)}
            return {"taken": self._done(peer)}
        except OSError as error:
            raise _refused(error.strerror or "it cannot be written") from error

    def _have(self, peer: str) -> Mapping[str, Any]:
        try:
            size = int((self._folder / f"{peer}.{HAVE}").read_text())
        except (OSError, ValueError):
            return {"size": 0, "root": ""}
        try:
            of, _, root = (self._folder / f"{peer}.{ROOT}").read_text().strip().partition(" ")
        except (OSError, ValueError):
            return {"size": size, "root": ""}
        return {"size": size, "root": root if of == str(size) else ""}

    def _put(self, peer: str, untrusted: Mapping[str, Any]) -> int:
        name = canonical.one_of(untrusted.get("name"), _NAMES, "name")
        offset = canonical.integer(untrusted.get("offset"), "offset", maximum=MOST_BYTES)
        try:
            data = base64.b64decode(
                canonical.text(untrusted.get("data"), "data", most=_MOST_DATA, may_be_empty=True), validate=True
            )
        except (binascii.Error, ValueError) as error:
            raise _refused("a part is not base64") from error
        if offset + len(data) > MOST_BYTES:
            raise _refused(f"more than {MOST_BYTES} bytes: bring it on a medium")
        folder = self._folder / peer
        folder.mkdir(parents=True, exist_ok=True)
        self._let_group_in(self._folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if offset else os.O_TRUNC)
        with os.fdopen(os.open(folder / name, flags, 0o640), "ab" if offset else "wb") as stream:
            if stream.seek(0, os.SEEK_END) != offset:
                raise _refused("a part does not follow the one before")
            stream.write(data)
        return offset + len(data)

    def _done(self, peer: str) -> bool:
        making, ready = self._folder / peer, self._folder / f"{peer}.ready"
        if ready.exists() or not all((making / name).exists() for name in (ENVELOPE_NAME, LEAVES_NAME)):
            return False
        self._let_group_in(making)
        # The sender sends no more of what is taken: a power cut must not leave half of it under its final name.
        for name in (one for one in _NAMES if (making / one).exists()):
            with (making / name).open("rb") as stream:
                os.fsync(stream.fileno())
        sync_folder(making)
        making.rename(ready)
        sync_folder(self._folder)
        return True

    @staticmethod
    def _let_group_in(folder: Path) -> None:
        folder.chmod(0o770)
        for path in folder.iterdir():
            if path.is_file() and not path.is_symlink() and path.stat().st_uid == os.getuid():
                path.chmod(0o640)


def _refused(why: str) -> WireError:
    return WireError(what="the bundle is not taken in", why=why, fix="send it again from its beginning")
