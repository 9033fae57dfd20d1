"""A sender whose people have a classic and an ML-DSA-87 key for each use, and signatures by any choice of them."""

import copy
import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, Signer  # type: ignore[attr-defined]  # re-exported without __all__

from media.canonical import dumps
from tests.support.sender import Sender

Halves = Mapping[tuple[str, str, str], Signer]
"""By person, use and kind: `classic` or `mldsa`."""


@functools.cache
def halves() -> Halves:
    """Return keys of alice, bob and carol, made once in a test run."""
    makers: dict[str, Any] = {"classic": ed25519.Ed25519PrivateKey, "mldsa": mldsa.MLDSA87PrivateKey}
    return {
        (person, use, kind): CryptoSigner(maker.generate())
        for person in ("alice", "bob", "carol")
        for use in ("root", "release")
        for kind, maker in makers.items()
    }


def hybrid_root(sender: Sender, *, version: int = 1, policy: str | None = "hybrid") -> dict[str, Any]:
    """Return the signed part of a root of alice, bob and carol, two of whom must sign anything."""
    found = {key: signer.public_key for key, signer in halves().items()}
    people = [
        {
            "id": person,
            "name": f"{person.title()} Example",
            "roles": ["root", "release", "custody", "rehearsal"],
            "keys": {
                use: [found[person, use, kind].keyid for kind in ("classic", "mldsa")] for use in ("root", "release")
            },
            "openpgp": next(
                copy.deepcopy(each["openpgp"]) for each in sender.root["x-sealift-people"] if each["id"] == person
            ),
        }
        for person in ("alice", "bob", "carol")
    ]
    root = sender.changed_root() | {
        "version": version,
        "keys": {key.keyid: key.to_dict() for key in found.values()},
        "x-sealift-people": people,
    }
    for role in root["roles"]:
        use = "root" if role == "root" else "release"
        root["roles"][role] = {"keyids": [each for person in people for each in person["keys"][use]], "threshold": 2}
    if policy is not None:
        root["x-sealift-policy"] = policy
    return root


def keyids(use: str, *signed: str) -> list[str]:
    """Return key ids; `alice` means both halves of alice, `alice/classic` one of them."""
    return [signer.public_key.keyid for signer in chosen(use, signed)]


def chosen(use: str, signed: Iterable[str]) -> list[Signer]:
    """Return signers by the same names."""
    found = []
    for each in signed:
        person, _, kind = each.partition("/")
        found += [halves()[person, use, name] for name in ([kind] if kind else ["classic", "mldsa"])]
    return found


def signed_file(signed: Mapping[str, Any], signers: Iterable[Signer]) -> bytes:
    """Return a metadata file in canonical form."""
    payload = encode_canonical(json.loads(json.dumps(signed)))
    assert payload is not None
    made = [signer.sign(payload.encode()).to_dict() for signer in signers]
    return dumps({"signatures": sorted(made, key=lambda each: each["keyid"]), "signed": signed})
