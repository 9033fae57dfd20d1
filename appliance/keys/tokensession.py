"""The session with a PKCS#11 token: opened on first use, logged in once, begun anew after a fork or a failure.

PyKCS11 is imported on use: only sites with a token have it. The PIN comes from a file, a systemd credential on a box;
it is in no argument, environment or message.
"""

import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from appliance.errors import KeyMissingError
from appliance.keys.provider import PURPOSES

_LABEL = re.compile(r"sealift/([a-z0-9-]{1,64})\.v([1-9][0-9]{0,8})")
_PIN_BYTES: Final = 256
_LEAST_PIN: Final = 4
_LOOKS: Final = 10
_RIGHT_PIN: Final = (
    "as root: `sealift box-keys pin`, then `systemctl restart sealift.target` (docs/operator/keys.md, PKCS#11)"
)

Objects = dict[tuple[str, int], dict[str, Any]]


class TokenSession:
    """One session, lent to one thread at a time; `objects` are the handles of our keys by name, version and part.

    Args:
        module: The vendor's library.
        token: The token's label.
        pin_file: Holds the user PIN; a line end after it is not part of it.
        variables: What the module reads from the environment, as ``NAME=/path``: vendors tell it so where its own
            settings lie. This process gets them when the session begins.
    """

    def __init__(self, module: str, token: str, pin_file: Path, variables: Sequence[str] = ()) -> None:
        self._module = module
        self._token = token
        self._pin_file = pin_file
        self._variables = dict(text.split("=", 1) for text in variables)
        self._lock = threading.Lock()
        self._session: Any = None
        self._library: Any = None
        self._pid = 0
        self._wrong = b""
        self.objects: Objects = {}

    @contextmanager
    def lent(self, name: str = "") -> Iterator[Any]:
        """Lend the session to one thread; a failure of the token ends it, so that the next use begins anew.

        Args:
            name: The key that an error names, instead of the token.

        Raises:
            KeyMissingError: The module, the token or the PIN is not there, or the token refuses.
        """
        try:
            import PyKCS11
        except ImportError as error:
            raise self.missing("", "PyKCS11 is not installed: the release was built without server-hsm.txt") from error
        with self._lock:
            try:
                if self._session is None or self._pid != os.getpid():
                    try:
                        self._begin()
                    except KeyMissingError:
                        self._forget()  # a token that is put in later is seen then
                        raise
                yield self._session
            except PyKCS11.PyKCS11Error as error:
                self._forget()
                raise self.missing(name, str(error)) from error

    def look(self, session: Any) -> None:
        """Find our keys on the token again.

        Raises:
            KeyMissingError: One could leave the token, or is there twice.
        """
        import PyKCS11

        kinds = {
            PyKCS11.CKO_PRIVATE_KEY: "private",
            PyKCS11.CKO_PUBLIC_KEY: "public",
            PyKCS11.CKO_SECRET_KEY: "secret",
        }
        found: Objects = {}
        for kind, part in kinds.items():
            for handle in session.findObjects([(PyKCS11.CKA_TOKEN, True), (PyKCS11.CKA_CLASS, kind)]):
                with _gone_meanwhile():
                    self._note(found, session, handle, part)
        self.objects = found

    def _note(self, found: Objects, session: Any, handle: Any, part: str) -> None:
        import PyKCS11

        (label,) = session.getAttributeValue(handle, [PyKCS11.CKA_LABEL])
        match = _LABEL.fullmatch(label if isinstance(label, str) else bytes(label or ()).decode("utf-8", "replace"))
        if match is None or match[1] not in PURPOSES:
            return
        if part != "public":
            self._require_kept(session, handle, match[1])
        of_version = found.setdefault((match[1], int(match[2])), {})
        if part in of_version:
            raise self.missing(match[1], f"version {match[2]} is on the token twice")
        of_version[part] = handle

    def handle(self, name: str, version: int, part: str) -> Any:
        """Return the handle of a key's part: private, public or secret.

        Raises:
            KeyMissingError: The token does not hold it.
        """
        try:
            return self.objects[name, version][part]
        except KeyError:
            raise self.missing(name, f"version {version} is not on the token") from None

    def close(self) -> None:
        """End the session; the next use begins another."""
        with self._lock:
            self._forget()

    def missing(self, name: str, why: str, *, fix: str = "see docs/operator/keys.md, PKCS#11") -> KeyMissingError:
        """Return the error that names a key, or the token itself."""
        what = f"the key {name} cannot be used" if name else f"the token {self._token} cannot be used"
        return KeyMissingError(what=what, why=why, fix=fix)

    def _begin(self) -> None:
        import PyKCS11

        self._forget()  # in a child after a fork: what was begun before it is not this process's (PKCS#11, 5.4)
        os.environ.update(self._variables)
        library = self._library = PyKCS11.PyKCS11Lib()
        library.load(self._module)
        present = library.getSlotList(tokenPresent=True)
        slots = [slot for slot in present if library.getTokenInfo(slot).label.rstrip("\0 ") == self._token]
        if len(slots) != 1:
            raise self.missing("", f"{len(slots)} tokens have this label")
        session = library.openSession(slots[0], PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
        if session.getSessionInfo().state != PyKCS11.CKS_RW_USER_FUNCTIONS:
            self._login(session, self._pin())
        self._session, self._pid = session, os.getpid()
        self.look(session)

    def _login(self, session: Any, pin: str) -> None:
        """Log in; a PIN that the token refused is not tried again: each answer would, and tokens lock after a few."""
        import PyKCS11

        tried = sha256(pin.encode()).digest()
        if tried == self._wrong:
            raise self.missing(
                "",
                "CKR_PIN_INCORRECT: it refused the PIN that is placed, which is not tried again: tokens lock",
                fix=_RIGHT_PIN,
            )
        try:
            session.login(pin)
        except PyKCS11.PyKCS11Error as error:
            if error.value != PyKCS11.CKR_PIN_INCORRECT:
                raise
            self._wrong = tried
            self._forget()
            raise self.missing("", str(error), fix=_RIGHT_PIN) from error

    def _pin(self) -> str:
        try:
            with self._pin_file.open("rb") as stream:
                pin = stream.read(_PIN_BYTES + 1).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise self.missing("", f"its PIN cannot be read ({type(error).__name__})") from error
        if not _LEAST_PIN <= len(pin) <= _PIN_BYTES:
            raise self.missing("", f"its PIN is shorter than {_LEAST_PIN} characters or too long")
        return pin

    def _require_kept(self, session: Any, handle: Any, name: str) -> None:
        """Refuse a key that the token would give away, or that was outside of it once."""
        import PyKCS11

        names = ("CKA_SENSITIVE", "CKA_EXTRACTABLE", "CKA_NEVER_EXTRACTABLE", "CKA_LOCAL")
        values = session.getAttributeValue(handle, [getattr(PyKCS11, each) for each in names])
        if [bool(value) for value in values] != [True, False, True, True]:
            raise self.missing(name, "it can leave the token, or was made outside of it")

    def _forget(self) -> None:
        if self._library is None:
            return
        import PyKCS11

        ends = [self._library.unload]
        if self._session is not None and self._pid == os.getpid():
            # No logout, which would end every session of this process: the last one that closes logs out (5.6.2).
            ends = [self._session.closeSession, *ends]
        for end in ends:
            with suppress(PyKCS11.PyKCS11Error):
                end()
        self._session, self._library, self.objects = None, None, {}


@contextmanager
def _gone_meanwhile() -> Iterator[None]:
    """Pass over an object that another process took off the token after it was found (PKCS#11 v3.1, 5.1.7)."""
    import PyKCS11

    try:
        yield
    except PyKCS11.PyKCS11Error as error:
        if error.value != PyKCS11.CKR_OBJECT_HANDLE_INVALID:
            raise


def recall(session: Any, label: str) -> tuple[bytes, ...]:
    """Return what our data objects of this label hold: one, none at first, two where a cut came between."""
    import PyKCS11

    # A token that lists its objects while another process replaces ours may list neither: several looks say "none".
    was_there = False
    for _ in range(_LOOKS):
        found: list[bytes] = []
        for handle in _data(session, label):
            was_there = True
            with _gone_meanwhile():
                found.append(bytes(session.getAttributeValue(handle, [PyKCS11.CKA_VALUE])[0]))
        if found:
            return tuple(found)
    if was_there:
        raise PyKCS11.PyKCS11Error(PyKCS11.CKR_OBJECT_HANDLE_INVALID)  # replaced each time: fail rather than say "none"
    return ()


def remember(session: Any, label: str, value: bytes) -> None:
    """Lay a data object of ours onto the token, then take the one before away: a cut leaves both, never none."""
    import PyKCS11

    before = _data(session, label)
    session.createObject(
        [
            (PyKCS11.CKA_CLASS, PyKCS11.CKO_DATA),
            (PyKCS11.CKA_TOKEN, True),
            (PyKCS11.CKA_PRIVATE, True),
            (PyKCS11.CKA_LABEL, label),
            (PyKCS11.CKA_APPLICATION, "sealift"),
            (PyKCS11.CKA_VALUE, value),
        ]
    )
    for handle in before:
        with _gone_meanwhile():
            session.destroyObject(handle)


def _data(session: Any, label: str) -> list[Any]:
    import PyKCS11

    wanted = [(PyKCS11.CKA_CLASS, PyKCS11.CKO_DATA), (PyKCS11.CKA_TOKEN, True), (PyKCS11.CKA_LABEL, label)]
    return list(session.findObjects(wanted))
