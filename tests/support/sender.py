"""A sender's people: Alice and Bob sign roots and releases, Carol signs releases, Dora only enters custody."""

import base64
import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib.signer import Signer  # type: ignore[attr-defined]  # re-exported without __all__

from media.people import People
from media.signers import tuf_signer
from tests.support.gpg import GnuPG

_PEOPLE = {
    "alice": ["root", "release", "custody", "rehearsal"],
    "bob": ["root", "release", "custody"],
    "carol": ["release"],
    "dora": ["custody"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """People with keys, and the root that names them.

    Args:
        gnupg: Holds all their private keys.
        fingerprints: By person and use.
        certificates: Of the release keys, by person.
        signers: Of TUF metadata and envelopes, by person and use.
        root: The `signed` part; change only copies of it (`changed_root`).
    """

    gnupg: GnuPG
    fingerprints: Mapping[tuple[str, str], str]
    certificates: Mapping[str, bytes]
    signers: Mapping[tuple[str, str], Signer]
    root: Mapping[str, Any]

    @property
    def people(self) -> People:
        """The people as the trusted root names them."""
        return People.from_root(self.root)

    def changed_root(self) -> dict[str, Any]:
        """Return a deep copy of the root, to be spoilt by a test."""
        return copy.deepcopy(dict(self.root))

    def detached(self, person: str, data: bytes) -> bytes:
        """Return a detached signature with a person's release key."""
        return self.gnupg.sign(self.fingerprints[person, "release"], data)


def make_sender(gnupg: GnuPG) -> Sender:
    """Make the keys of four people and a root with threshold 2 for root and release."""
    fingerprints: dict[tuple[str, str], str] = {
        (person, use): gnupg.key(f"{person.title()} ({use}) <{person}.{use}@example.invalid>")
        for person in _PEOPLE
        for use in ("root", "release")
        if use in _PEOPLE[person] or use == "release"
    }
    signers = {key: tuf_signer(gnupg.home, fingerprint) for key, fingerprint in fingerprints.items()}
    certificates = {person: gnupg.certificate(fingerprints[person, "release"]) for person in _PEOPLE}
    return Sender(
        gnupg=gnupg,
        fingerprints=fingerprints,
        certificates=certificates,
        signers=signers,
        root=_root(fingerprints, certificates, signers),
    )


def _root(
    fingerprints: Mapping[tuple[str, str], str],
    certificates: Mapping[str, bytes],
    signers: Mapping[tuple[str, str], Signer],
) -> dict[str, Any]:
    def keyids(use: str) -> list[str]:
        return [fingerprints[person, use].lower() for person, roles in _PEOPLE.items() if use in roles]

    release = {"keyids": keyids("release"), "threshold": 2}
    return {
        "_type": "root",
        "spec_version": "1.0.31",
        "version": 1,
        "expires": "9999-12-31T23:59:59Z",
        "consistent_snapshot": True,
        "keys": {signer.public_key.keyid: signer.public_key.to_dict() for signer in signers.values()},
        "roles": {
            "root": {"keyids": keyids("root"), "threshold": 2},
            **{name: copy.deepcopy(release) for name in ("targets", "snapshot", "timestamp")},
        },
        "x-sealift-environment": "demo",
        "x-sealift-people": [
            {
                "id": person,
                "name": f"{person.title()} Example",
                "roles": roles,
                "keys": {
                    use: [fingerprints[person, use].lower()]
                    for use in ("root", "release")
                    if (person, use) in fingerprints
                },
                "openpgp": {
                    "fingerprint": fingerprints[person, "release"],
                    "certificate": base64.b64encode(certificates[person]).decode(),
                },
            }
            for person, roles in _PEOPLE.items()
        ],
    }
