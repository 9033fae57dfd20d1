"""Metadata that people have signed, read on the sender's side: thresholds of keys and people first, then the facts."""

from collections.abc import Callable
from typing import Any

from tuf.api.metadata import Metadata

from bundler.signatory import Ceremony, require_all_hold, signed_part
from media import layout
from media.errors import BadSignatureError, WrongVolumeError
from media.people import Role
from media.release import ReleaseTerms, StaleAfter, Target, targets_from
from media.volume import VolumeIndex


def signed_release(
    read: Callable[[str], bytes], index: VolumeIndex, trusted: Ceremony
) -> tuple[dict[str, Target], ReleaseTerms, StaleAfter]:
    """Return targets, terms and date of a release, once its metadata is signed by enough people and fits the index.

    Args:
        read: Returns a file of release/ by its name there.
        index: Of its volumes.
        trusted: The root that names the people.

    Raises:
        BadSignatureError, ThresholdError, SamePersonError: Not enough people signed.
        WrongVolumeError: The index is about another release.
        MediaError: The metadata or the index cannot be read, or they differ.
    """
    names = {
        "timestamp": layout.TIMESTAMP,
        "snapshot": layout.snapshot_name(index.serial),
        "targets": layout.targets_name(index.serial),
    }
    for role, name in names.items():
        metadata: Metadata[Any] = Metadata.from_bytes(read(name))
        try:
            trusted.root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except ValueError as error:
            raise BadSignatureError(what=f"{name} is not signed by enough keys", why=str(error)) from error
        held = require_all_hold(trusted.root, role, metadata.signed_bytes, metadata.signatures)
        trusted.people.require_key_signers(held, Role.RELEASE, trusted.threshold("release"))
    signed = signed_part(read(names["targets"]))
    terms, targets = ReleaseTerms.from_targets(signed), targets_from(signed)
    index.require_covers(targets)
    if (index.release, index.serial, index.payload_digest) != (terms.release, terms.serial, terms.payload_digest):
        raise WrongVolumeError(what="the index of the volumes is about another release")
    return targets, terms, StaleAfter.from_timestamp(signed_part(read(layout.TIMESTAMP)))
