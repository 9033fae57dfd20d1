"""Encryption to a key that is not here: OpenPGP by the system's gpg, so that stock tools open a backup in ten years.

Only the recipient's certificate is on the box. Encrypting uses no keyring and starts no agent. Decrypting believes
gpg's status lines, not its exit code, and nothing of the plaintext counts before they said that all of it is whole.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO, Final, TypeVar

from appliance import throwaway
from appliance.actions.backups.archive import damaged
from appliance.config import Places
from appliance.errors import KeyMissingError, PreflightError, UnitError
from media import limits
from media.errors import MediaError, SealiftError
from media.gpgagent import stop_agents, terminal
from media.packets import Certificate

# With an algorithm in place of the first `default`, gpg makes a key that signs and no second one that decrypts.
MAKE_KEY: Final = 'gpg --quick-gen-key "Backups of SITE" default default 20y'
_PREFIX: Final = b"[GNUPG:] "
_RUN: Final = Path("/run")
_PLACE_CHARACTERS: Final = 50  # the names of an agent's sockets, folder and all, hold 107
_STRICT: Final = ("--no-options", "--batch", "--no-tty", "--lock-never", "--no-random-seed-file", "--no-autostart")
_ENCRYPT: Final = (
    *("--no-keyring", "--trust-model", "always", "--cipher-algo", "AES256", "--compress-algo", "zlib"),
    # With a dead battery every key is one of the clock's future, and backups go on; one that ended stays refused.
    *("--ignore-time-conflict", "--ignore-valid-from"),
    *("--encrypt", "--output", "-"),
)
_Result = TypeVar("_Result")


def certificate(places: Places) -> Certificate:
    """Return the recipient's certificate.

    Raises:
        PreflightError: Nobody has chosen one, or the file is none.
    """
    try:
        with places.backup_recipient.open("rb") as stream:
            untrusted = stream.read(limits.CERTIFICATE_BYTES + 1)
        return Certificate.from_bytes(untrusted)
    except FileNotFoundError as error:
        raise PreflightError(
            what="backups have no recipient",
            why="nobody has said who can open them; after a restore it is said anew",
            fix="sealift backup recipient CERTIFICATE --by NAME --by NAME",
        ) from error
    except OSError as error:
        raise PreflightError(
            what="the recipient of backups cannot be read",
            why=error.strerror or "",
            fix="sealift backup recipient CERTIFICATE --by NAME --by NAME",
        ) from error
    except MediaError as error:
        raise PreflightError(
            what="the recipient of backups is not a certificate",
            why=error.why or error.what,
            fix="choose one again: sealift backup recipient CERTIFICATE --by NAME --by NAME",
        ) from error


@contextmanager
def encrypting(recipient: Path, out: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run gpg from its stdin to the file `out`; the caller closes stdin, waits and judges the exit code.

    Raises:
        UnitError: gpg is not installed.
    """
    with throwaway.folder("sealift-gpg-") as home:
        command = ["gpg", "--homedir", str(home), *_STRICT, "--quiet", "--recipient-file", str(recipient), *_ENCRYPT]
        process = _start(command, stdin=subprocess.PIPE, stdout=out)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            if process.stdin is not None and not process.stdin.closed:
                with suppress(BrokenPipeError):
                    process.stdin.close()
            process.wait()


def require_usable(recipient: Path) -> None:
    """Return when gpg encrypts to this certificate.

    Raises:
        PreflightError: It has no key to encrypt to, or that key has expired or was revoked.
    """
    with tempfile.TemporaryFile() as out, encrypting(recipient, out.fileno()) as process:
        process.communicate(b"probe")
        if process.returncode != 0:
            raise PreflightError(
                what="nothing can be encrypted to this certificate",
                why="it has no valid key to encrypt to",
                fix=f"give a certificate with an encryption key: `{MAKE_KEY}`, then `gpg --export FINGERPRINT`",
            )


def decrypting(file: Path, home: Path | None, use: Callable[[IO[bytes]], _Result]) -> _Result:
    """Return what `use` makes of the plaintext, once gpg said that it is whole.

    A passphrase is asked for at the terminal. Nothing is written into `home`, and no agent stays that knows the key.

    Args:
        file: The encrypted backup.
        home: The GnuPG folder with the recipient's private key, which may be read-only; None for the user's own.
        use: Reads the plaintext to its end; its result is thrown away when gpg says that anything is wrong.

    Raises:
        BackupDamagedError: It was cut or altered.
        KeyMissingError: The key is not in that folder, or its passphrase was not given.
        UnitError: gpg is not installed.
    """
    read_end, write_end = os.pipe()
    lines: list[bytes] = []
    with os.fdopen(read_end, "rb") as status, _seen(home) as own:
        command = ["gpg", *own, "--no-options", "--batch", "--no-tty", "--quiet", "--status-fd", str(write_end)]
        try:
            process = _start([*command, "--decrypt", "--", str(file)], stdout=subprocess.PIPE, pass_fds=(write_end,))
        finally:
            os.close(write_end)
        watcher = Thread(target=lambda: lines.extend(status.read().split(b"\n")), daemon=True)
        watcher.start()
        failure: Exception | None = None
        result: _Result | None = None
        with process:
            if process.stdout is None:
                raise UnitError(what="gpg has no output", why="", fix="report it: a fault of ours")
            try:
                result = use(process.stdout)
            except (SealiftError, OSError) as error:
                failure = error
                process.stdout.close()
        watcher.join()
    _require_whole(lines, process.returncode, failure)
    if failure is not None:
        raise failure
    return result  # type: ignore[return-value]  # set, because nothing failed


@contextmanager
def _seen(home: Path | None) -> Iterator[list[str]]:
    """Yield gpg's words for a folder in which all of this one is seen: sockets and locks of gpg lie there, not here."""
    place = _RUN if os.access(_RUN, os.W_OK) else Path(tempfile.gettempdir())
    if home is None or len(str(place)) > _PLACE_CHARACTERS:
        yield [] if home is None else ["--homedir", str(home)]
        return
    with throwaway.folder("sealift-gpg-", place=place) as folder:
        with suppress(OSError):  # gpg finds no key in what is not there
            for one in home.resolve().iterdir():
                if not one.is_socket() and not one.name.endswith(".lock"):
                    (folder / one.name).symlink_to(one)
        try:
            yield ["--homedir", str(folder)]
        finally:
            with suppress(OSError, subprocess.SubprocessError):
                stop_agents(folder)


def _require_whole(lines: list[bytes], code: int, failure: Exception | None) -> None:
    said = [line[len(_PREFIX) :].split(b" ")[0] for line in lines if line.startswith(_PREFIX)]
    # gpg says NO_SECKEY only where the folder has no private key at all.
    if b"ENC_TO" in said and b"DECRYPTION_KEY" not in said and b"DECRYPTION_OKAY" not in said:
        is_asked = b"PINENTRY_LAUNCHED" in said
        raise KeyMissingError(
            what="the backup does not open with the keys that are here",
            why="its passphrase or PIN was not given"
            if is_asked
            else "the recipient's private key is in another folder",
            fix="run it at a terminal, and type it when gpg asks" if is_asked else "bring it, and give --home FOLDER",
        )
    if failure is not None and b"DECRYPTION_FAILED" not in said and b"BADMDC" not in said:
        return  # what went wrong is not gpg's to say: it was cut off because reading ended
    if code != 0 or said.count(b"DECRYPTION_OKAY") != 1 or b"GOODMDC" not in said or b"DECRYPTION_FAILED" in said:
        raise damaged("gpg does not find it whole")


def _start(
    command: list[str], *, stdout: int, stdin: int = subprocess.DEVNULL, pass_fds: tuple[int, ...] = ()
) -> "subprocess.Popen[bytes]":
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", "/usr/bin:/bin")}
    passed = ("HOME", "GNUPGHOME", "TERM", "GPG_TTY")
    environment |= terminal() | {name: os.environ[name] for name in passed if name in os.environ}
    try:
        return subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL, pass_fds=pass_fds, env=environment
        )
    except OSError as error:
        raise UnitError(
            what="gpg cannot be run", why=error.strerror or "", fix="install Debian's package gpg"
        ) from error
