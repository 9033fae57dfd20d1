"""What may be told of a box's keys, so that the nodes of a site find out whether theirs are the same: no key itself.

A commitment is a keyed hash of a fixed text, or the public half of a key that signs, hashed: whoever has the key makes
the same one, and whoever has not learns nothing from it. A token's keys that encrypt make none: they never leave it,
and hash nothing.

Entry point: ``python -I -m appliance.keys.commitments --config FILE``, as root, before a node's ledger starts: it
writes down what the ledger, which may see two of the keys, compares.
"""

import argparse
import hashlib
import hmac
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from appliance import config as configuration
from appliance.config import Config, Places
from appliance.errors import KeyMissingError
from appliance.keys.opening import open_keys
from appliance.keys.provider import PURPOSES, KeyProvider, Purpose
from media import canonical, durable
from media.errors import SealiftError

FILE_NAME: Final = "key-commitments"
FORMAT: Final = 1
# The NUL keeps it apart from the texts that these keys hash otherwise, and the number from a later form of this.
_LABEL: Final = b"\x00sealift/key-commitment/v1\x00"
_VERSION: Final = re.compile(r"([a-z-]{1,40})\.v[1-9][0-9]{0,8}", re.ASCII)
_MOST_BYTES: Final = 1024 * 1024


def of(keys: KeyProvider) -> dict[str, str]:
    """Return a commitment to each version of each key that is here, by the name of its file.

    Raises:
        KeyMissingError: The keys cannot be asked, or one of them cannot be used.
    """
    found = {}
    for name in PURPOSES:
        for version in keys.versions(name):
            made = commitment(keys, name, version)
            if made:
                found[f"{name}.v{version}"] = made
    return found


def commitment(keys: KeyProvider, name: str, version: int) -> str:
    """Return the commitment to one version; nothing for a key on a token that encrypts.

    Raises:
        KeyMissingError: The key is not here, or cannot be used.
    """
    purpose, text = PURPOSES[name], _LABEL + f"{name}.v{version}".encode()
    if purpose is Purpose.SIGN:
        return hashlib.sha256(text + keys.public(name, version=version)).hexdigest()
    if purpose is Purpose.HMAC:
        return keys.hmac(name, text, version=version).hex()
    try:
        material = keys.get(name, version=version).bytes
    except KeyMissingError:
        if purpose is Purpose.WRAP and version in keys.versions(name):
            return ""
        raise
    return hmac.digest(material, text, hashlib.sha256).hex()


def written(places: Places) -> dict[str, str] | None:
    """Return what root wrote down before this unit started; None where nobody did.

    Raises:
        KeyMissingError: It is not what root writes.
    """
    try:
        with (places.run / FILE_NAME).open("rb") as file:
            untrusted = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unwritten(error.strerror or "") from error
    try:
        fields = canonical.exact_keys(canonical.loads_canonical(untrusted), ("format", "keys"), what=FILE_NAME)
        canonical.integer(fields["format"], "format", minimum=FORMAT, maximum=FORMAT)
        return from_json(fields["keys"])
    except SealiftError as error:
        raise _unwritten(error.why) from error


def from_json(untrusted: Any) -> dict[str, str]:
    """Parse commitments by the names of their keys' files.

    Raises:
        MalformedError: They are of another shape.
    """
    found = {}
    for name, value in canonical.mapping(untrusted, "keys").items():
        match = _VERSION.fullmatch(name)
        if match is not None and match[1] in PURPOSES:  # a newer release has keys that this one does not know
            found[name] = canonical.sha256_hex(value, f"keys.{name}")
    return found


def seen_from(config: Config, keys: KeyProvider) -> dict[str, str]:
    """Return the commitments to all keys of this box as root wrote them down, else to those that this process sees.

    A unit sees few of them. So it is told nothing of the others in an upgrade by a release that wrote nothing down.

    Raises:
        KeyMissingError: What was written is not what root writes, or a key cannot be used.
    """
    found = written(config.at)
    return of(keys) if found is None else found


def write(config: Config) -> None:
    """Write the commitments down where the ledger's unit finds them; none are there where that fails.

    Raises:
        KeyMissingError: A key cannot be used, or the place cannot be written.
    """
    try:
        config.at.run.mkdir(parents=True, exist_ok=True)
        (config.at.run / FILE_NAME).unlink(missing_ok=True)
        content = canonical.dumps({"format": FORMAT, "keys": of(open_keys(config, environ={}))})
        durable.replace(config.at.run / FILE_NAME, content, mode=0o644)
    except OSError as error:
        raise _unwritten(error.strerror or "") from error


def _unwritten(why: str) -> KeyMissingError:
    return KeyMissingError(
        what="what the keys of this node are cannot be compared with those of the others",
        why=why,
        fix="see the journal of sealift-ledger, and docs/operator/keys.md",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the commitments down; return the exit code."""
    parser = argparse.ArgumentParser(prog="sealift-key-commitments")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    try:
        write(configuration.load(options.config))
    except SealiftError as error:
        sys.stderr.write(f"{error.what} ({error.why}) {error.fix}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
