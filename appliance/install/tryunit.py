"""What `sealift-try-nginx@DIGEST` and `sealift-try-nftables@DIGEST` do: try the bytes of that digest, and judge them.

Entry point: ``python -I -m appliance.install.tryunit --config FILE nginx|nftables DIGEST``. The bytes are those that
`appliance.install.tried` handed over; they are proven to be those of the digest in this process, which gives the
program exactly what it proved. It ends with 0 only where a verdict was left that accepts them.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from appliance import config as configuration
from appliance.config import Places
from appliance.errors import InstallError
from appliance.install import plans, tried
from appliance.install.tried import LONGEST, Verdict
from media import durable
from media.digest import sha256_hex
from media.errors import SealiftError

_SECONDS: Final = 60
_REFUSED: Final = 1


def _nginx(data: bytes) -> "subprocess.CompletedProcess[bytes]":
    """Let nginx read it, with certificates and keys, and open the ports it names, in this unit's own network."""
    with tempfile.TemporaryDirectory(prefix="sealift-try-") as scratch:
        file = Path(scratch) / "nginx.conf"
        file.write_bytes(data)
        return _ran(["nginx", "-t", "-q", "-c", str(file)], b"")


def _nftables(data: bytes) -> "subprocess.CompletedProcess[bytes]":
    """Let the kernel judge the rules without putting them in force, in this unit's own network."""
    return _ran(["nft", "--check", "--file", "-"], data)


_PROGRAMS: Final[Mapping[str, Callable[[bytes], "subprocess.CompletedProcess[bytes]"]]] = {
    "nginx": _nginx,
    "nftables": _nftables,
}


def judge(places: Places, kind: str, digest: str) -> Verdict:
    """Try the bytes of a digest and leave the verdict on them.

    Raises:
        InstallError: They are not there, are others, or the program did not come to an end; no verdict was left.
    """
    try:
        data = plans.read_strange(tried.handed_over(places, kind, digest), LONGEST + 1)
        if sha256_hex(data) != digest:
            raise _failed(kind, "the bytes handed over are not those of the digest")
        done = _PROGRAMS[kind](data)
        said = " ".join(done.stderr.decode(errors="replace").split())
        verdict = Verdict(kind=kind, digest=digest, accepted=done.returncode == 0, why=said)
        durable.replace(tried.left_at(places, kind, digest), verdict.to_bytes(), mode=0o644)
    except subprocess.TimeoutExpired as error:
        raise _failed(kind, "it did not end in time") from error
    except OSError as error:
        raise _failed(kind, f"{error.strerror}") from error
    return verdict


def _ran(command: Sequence[str], feed: bytes) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command, input=feed, capture_output=True, check=False, timeout=_SECONDS)


def _failed(kind: str, why: str) -> InstallError:
    return InstallError(what=f"the file for {kind} was not tried", why=why, fix="run the install again")


def main(arguments: Sequence[str] | None = None) -> int:
    """Try one file; returns the exit code, 0 where it is accepted."""
    parser = argparse.ArgumentParser(prog="sealift-try")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("kind", choices=tried.KINDS)
    parser.add_argument("digest")
    options = parser.parse_args(arguments)
    try:
        verdict = judge(configuration.load(options.config).at, options.kind, options.digest)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    sys.stderr.write(f"{'accepted' if verdict.accepted else 'refused'} {verdict.digest}: {verdict.why}\n")
    return 0 if verdict.accepted else _REFUSED


if __name__ == "__main__":
    raise SystemExit(main())
