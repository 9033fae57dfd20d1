"""A TPM 2.0 in software and a PKCS#11 token in it: swtpm behind tpm2-pkcs11, both from Debian."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.softhsm import PIN

TPM_MODULE: Final = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so"
_SO_PIN: Final = "31415926"
_READY_SECONDS: Final = 10.0


@contextmanager
def tpm_token(folder: Path, label: str, environment: pytest.MonkeyPatch) -> Iterator[None]:
    """Lend a token with a PIN and no keys, in a TPM of its own. It takes one caller at a time: close the keys first.

    Args:
        folder: With a short path, for the TPM's sockets.
        label: The token's.
        environment: Gets what the module reads: where the TPM answers, and where the token's objects lie.
    """
    state, store, socket = folder / "state", folder / "store", folder / "tpm"
    state.mkdir(parents=True)
    store.mkdir()
    places = {"--server": socket, "--ctrl": folder / "tpm.ctrl"}  # the module takes the second for granted
    channels = [part for name, path in places.items() for part in (name, f"type=unixio,path={path}")]
    flags = ["--flags", "not-need-init,startup-clear"]
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", *channels, *flags]
    environment.setenv("TPM2_PKCS11_TCTI", f"swtpm:path={socket}")
    environment.setenv("TPM2_PKCS11_STORE", str(store))
    environment.setenv("TPM2_PKCS11_LOG_LEVEL", "0")
    environment.setenv("TSS2_LOG", "all+none")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        try:
            _wait(running, list(places.values()))
            tpm_tool("--init-token", "--slot-index", "0", "--label", label, "--so-pin", _SO_PIN)
            tpm_tool(
                *("--token-label", label, "--login", "--login-type", "so", "--so-pin", _SO_PIN),
                *("--init-pin", "--pin", PIN),
            )
            yield
        finally:
            running.kill()


def tpm_tool(*arguments: str) -> str:
    """Return what OpenSC's pkcs11-tool says of the token."""
    command = ["pkcs11-tool", "--module", TPM_MODULE, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def _wait(running: subprocess.Popen[bytes], places: list[Path]) -> None:
    end = time.monotonic() + _READY_SECONDS
    while not all(place.exists() for place in places):
        if running.poll() is not None or time.monotonic() > end:
            message = "swtpm did not begin"
            raise AssertionError(message)
        time.sleep(0.02)
