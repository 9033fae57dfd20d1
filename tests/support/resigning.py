"""Metadata that says something else and is signed again: what thieves of keys could make, and what nobody could.

    resign(medium, "targets", lambda signed: signed.update(version=7))
    medium.reseal()

Nothing here asks whether the result makes sense; that is the verifier's part.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from securesystemslib.formats import encode_canonical

from appliance.verify.trust import TrustRecord
from bundler.gpghome import short_home
from bundler.signatory import Ceremony
from media import layout, limits
from media.canonical import dumps
from media.signers import tuf_signer
from tests.support.medium import SimulatedMedium
from tests.support.receiving import Shelf, copy_here

Edit = Callable[[dict[str, Any]], object]
BOTH = ("alice", "bob")
ROLES = ("timestamp", "snapshot", "targets")


def record_of(medium: SimulatedMedium, **changes: Any) -> TrustRecord:
    """Return what a box believes that has accepted this medium."""
    record = TrustRecord(
        root_chain=tuple(raw.decode() for raw in medium.ceremony.chain),
        serial=medium.serial,
        timestamp_version=medium.serial * limits.SIGNINGS,
        snapshot_version=medium.serial,
        targets_version=medium.serial,
        payload_digest=json.loads(medium.path(layout.VOLUMES).read_bytes())["payload_digest"],
    )
    return replace(record, **changes)


def box(genuine: Shelf) -> TrustRecord:
    """Return what a box believes that has accepted release 3."""
    return record_of(genuine(serial=3))


def judge(medium: SimulatedMedium, trust: TrustRecord, **changes: Any) -> int:
    """Return the exit code of a copier that keeps nothing."""
    return copy_here(medium, None, trust=trust, **changes)[0]


def on_all(medium: SimulatedMedium, name: str, data: bytes) -> None:
    """Write a file of release/ on all volumes, whether it was there or not."""
    for volume in medium.volumes:
        (volume / layout.RELEASE / name).write_bytes(data)


def file_name(role: str, version: int) -> str:
    """Return where a role of this version lies on a medium."""
    return layout.TIMESTAMP if role == "timestamp" else f"{layout.METADATA}/{version}.{role}.json"


def signed_of(medium: SimulatedMedium, role: str) -> dict[str, Any]:
    """Return the signed part of a role as the medium was made."""
    return dict(json.loads(medium.path(file_name(role, medium.serial)).read_bytes())["signed"])


def resign(medium: SimulatedMedium, role: str, edit: Edit, *, signed_by: Iterable[str] = BOTH, use: str = "") -> None:
    """Change what a role says, have people sign it, and put it where its version belongs, on all volumes.

    Args:
        medium: The medium to change; `reseal` it afterwards.
        role: timestamp, snapshot or targets.
        edit: Changes the signed part.
        signed_by: Who signs, by id; nobody is asked twice.
        use: Sign with these keys (`root`) instead of the release keys.
    """
    signed = signed_of(medium, role)
    edit(signed)
    put(
        medium, role, signed_file(medium.ceremony, signed, signed_by=signed_by, use=use or "release"), signed["version"]
    )


def put(medium: SimulatedMedium, role: str, raw: bytes, version: int) -> None:
    """Replace a role's file by another one, under the name of its version, on all volumes."""
    for number in range(1, len(medium.volumes) + 1):
        medium.remove(file_name(role, medium.serial), volume=number)
        medium.add(file_name(role, version), raw, volume=number)


def next_root(ceremony: Ceremony, edit: Edit, *, signed_by: Iterable[str] = BOTH) -> bytes:
    """Return a root that follows the ceremony's last one and says something else besides."""
    signed = json.loads(ceremony.chain[-1])["signed"]
    signed["version"] += 1
    edit(signed)
    return signed_file(ceremony, signed, signed_by=signed_by, use="root")


def signed_file(ceremony: Ceremony, signed: dict[str, Any], *, signed_by: Iterable[str], use: str) -> bytes:
    """Return a metadata file with people's signatures, in the order of their key ids."""
    payload = encode_canonical(signed)
    assert payload is not None
    signatures = []
    for person in signed_by:
        with short_home(ceremony.home_of(person)) as home:
            made = tuf_signer(home, ceremony.person(person).keys[use][0].upper()).sign(payload.encode())
        signatures.append(made.to_dict())
    return dumps({"signatures": sorted(signatures, key=lambda each: each["keyid"]), "signed": signed})
