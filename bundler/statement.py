"""in-toto statements (v1) as the build leaves them: canonical, unsigned, one file each for its maker to sign."""

from collections.abc import Iterable
from typing import Any, Final

from bundler.artifact import Artifact
from media.canonical import dumps

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
CYCLONEDX: Final = "https://cyclonedx.org/bom"
SCAN: Final = "urn:sealift:scan:1"
REHEARSAL: Final = "urn:sealift:rehearsal:1"


def about_payload(payload_digest: str, predicate_type: str, predicate: dict[str, Any]) -> bytes:
    """Return a statement about the payload as a whole, named by its digest."""
    return _statement([{"name": "payload", "digest": {"sha256": payload_digest}}], predicate_type, predicate)


def about_files(artifacts: Iterable[Artifact], predicate_type: str, predicate: dict[str, Any]) -> bytes:
    """Return a statement about each file of the payload."""
    subjects = [{"name": artifact.target, "digest": {"sha256": artifact.sha256}} for artifact in artifacts]
    return _statement(subjects, predicate_type, predicate)


def _statement(subjects: list[dict[str, Any]], predicate_type: str, predicate: dict[str, Any]) -> bytes:
    return dumps(
        {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": predicate_type, "predicate": predicate}
    )
