"""Every name on a medium, and the one rule for names (FMT-1 to FMT-12). Nothing else spells or judges them.

A path on a medium is relative to `release/`, ASCII, taken from an allow-list, and means the same on every file system
that may carry it: no case-folding clash, no reserved device name, no trailing dot.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

from media import limits
from media.errors import MalformedError, UnsafePathError

FORMAT: Final = 1

RELEASE: Final = "release"
CUSTODY: Final = "custody"

METADATA: Final = "metadata"
ATTEST: Final = "attest"
DATA: Final = "data"
CHECK: Final = "check"
SIGNERS: Final = "check/signers"

BAGIT: Final = "bagit.txt"
BAG_INFO: Final = "bag-info.txt"
MANIFEST: Final = "manifest-sha256.txt"
TAG_MANIFEST: Final = "tagmanifest-sha256.txt"
TAG_FILES: Final = frozenset({BAGIT, BAG_INFO, MANIFEST})
"""The only names at the top of a bag that a tag manifest may list (FMT-59)."""

VOLUMES: Final = "metadata/volumes.json"
TIMESTAMP: Final = "metadata/timestamp.json"
RELEASE_FACTS: Final = "data/release.json"
VERIFY: Final = "check/VERIFY.txt"
SECOND_OPINION: Final = "check/verify.py"
BOOTSTRAP: Final = "check/bootstrap.py"

ENVELOPE_SUFFIX: Final = ".dsse.json"

BLOCK_BYTES: Final = 64 * 2**20
PART_BLOCKS: Final = 60
PART_BYTES: Final = PART_BLOCKS * BLOCK_BYTES  # 3.75 GiB, below what FAT32 holds in one file

# What operating systems leave at the root of a volume. Never opened; listed, and no reason to fail (FMT-12).
LITTER: Final = frozenset(
    {
        "System Volume Information",
        "$RECYCLE.BIN",
        ".Trashes",
        ".fseventsd",
        ".Spotlight-V100",
        "lost+found",
        ".DS_Store",
        "Thumbs.db",
    }
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~@-]*", re.ASCII)
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.ASCII | re.IGNORECASE)
_FINGERPRINT = re.compile(r"[0-9A-F]{40}", re.ASCII)
_RELEASE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_CUSTODY_NAME = re.compile(r"([0-9]{3})-([0-9a-f]{12})\.dsse\.json", re.ASCII)


def safe_path(untrusted: str) -> PurePosixPath:
    """Return the path if it is one that a medium may hold.

    Raises:
        UnsafePathError: The name could lead elsewhere, or means different things on different file systems.
    """
    if len(untrusted) > limits.PATH_CHARS:
        raise _unsafe(f"a name is longer than {limits.PATH_CHARS} characters")
    parts = untrusted.split("/")
    if len(parts) > limits.PATH_PARTS:
        raise _unsafe(f"a name has more than {limits.PATH_PARTS} parts")
    for part in parts:
        _require_name(part)
    return PurePosixPath(untrusted)


def require_distinct(paths: Iterable[str]) -> None:
    """Refuse a list of safe paths in which two would be one file, or one a folder of the other, on some file system.

    Raises:
        UnsafePathError: Two names differ only in case, or a file's name is also a folder's.
    """
    folded: set[str] = set()
    folders: dict[str, str] = {}
    for path in paths:
        lower = path.lower()
        if lower in folded:
            raise _unsafe(f"two names differ only in case or are given twice: {path}")
        folded.add(lower)
        spelled, parent = path, lower
        while "/" in parent:
            spelled, parent = spelled.rpartition("/")[0], parent.rpartition("/")[0]
            known = folders.setdefault(parent, spelled)
            if known != spelled:
                raise _unsafe(f"two folders differ only in case: {spelled}")
    both = folded & folders.keys()
    if both:
        raise _unsafe(f"a name is a file and a folder at once: {min(both)}")


def part_name(target: str, first: int, last: int) -> str:
    """Return the name of the part of a target that holds blocks first to last; six digits, so that a shell sorts."""
    return f"{target}.{first:06d}-{last:06d}"


def signature_name(fingerprint: str) -> str:
    """Return the name of the release signature made with the key of this primary fingerprint."""
    return f"{TAG_MANIFEST}.{require_fingerprint(fingerprint)}.sig"


def signer_of(untrusted_name: str) -> str | None:
    """Return the fingerprint that a signature's name holds, or None when it is no signature's name."""
    head, tail = f"{TAG_MANIFEST}.", ".sig"
    if not (untrusted_name.startswith(head) and untrusted_name.endswith(tail)):
        return None
    middle = untrusted_name[len(head) : -len(tail)]
    return middle if _FINGERPRINT.fullmatch(middle) else None


def certificate_name(fingerprint: str) -> str:
    """Return where the certificate of this primary fingerprint lies."""
    return f"{SIGNERS}/{require_fingerprint(fingerprint)}.gpg"


def root_name(version: int) -> str:
    """Return where root metadata of this version lies."""
    return f"{METADATA}/{version}.root.json"


def snapshot_name(version: int) -> str:
    """Return where snapshot metadata of this version lies."""
    return f"{METADATA}/{version}.snapshot.json"


def targets_name(version: int) -> str:
    """Return where targets metadata of this version lies."""
    return f"{METADATA}/{version}.targets.json"


def attestation_name(kind: str) -> str:
    """Return where the attestation of this kind (provenance, sbom, scan, rehearsal) lies."""
    return str(safe_path(f"{ATTEST}/{kind}{ENVELOPE_SUFFIX}"))


def sealed_custody_name(number: int, *, delta: bool = False) -> str:
    """Return where the sealed custody entry of this volume lies.

    That of a delta set is no target of the release, which was signed before; the tag manifest covers it (FMT-84).
    """
    return f"{METADATA if delta else ATTEST}/custody-sealed-{number}{ENVELOPE_SUFFIX}"


def custody_name(entry: int, sha256: str) -> str:
    """Return the name, below `custody/`, of a hand-over whose file has this SHA-256."""
    return f"{entry:03d}-{sha256[:12]}{ENVELOPE_SUFFIX}"


def custody_number(untrusted_name: str) -> int | None:
    """Return the entry number that a hand-over's file name holds, or None when it is no such name."""
    match = _CUSTODY_NAME.fullmatch(untrusted_name)
    return int(match[1]) if match else None


def require_fingerprint(untrusted: str) -> str:
    """Return a full upper-case version 4 OpenPGP fingerprint.

    Raises:
        MalformedError: It is anything else; short key ids and lower case included.
    """
    if not _FINGERPRINT.fullmatch(untrusted):
        raise MalformedError(
            what="A fingerprint is malformed",
            why="expected 40 upper-case hexadecimal digits",
            fix="Give the full fingerprint of the primary key.",
        )
    return untrusted


def require_release_name(untrusted: str) -> str:
    """Return a release name: lower case, digits, dot, underscore, hyphen, at most 64 characters.

    Raises:
        MalformedError: It is anything else.
    """
    if not _RELEASE_NAME.fullmatch(untrusted):
        raise MalformedError(
            what="A release name is malformed",
            why="expected at most 64 of a-z 0-9 . _ - beginning with a letter or digit",
            fix="Choose another release name.",
        )
    return untrusted


def _require_name(part: str) -> None:
    if len(part) > limits.NAME_CHARS:
        raise _unsafe(f"a part of a name is longer than {limits.NAME_CHARS} characters")
    if not _NAME.fullmatch(part):
        raise _unsafe("a part of a name is empty or holds characters outside A-Z a-z 0-9 _ . + ~ @ -")
    if part.endswith((".", "~")):
        raise _unsafe("a part of a name ends in a dot or a tilde")
    if _RESERVED.fullmatch(part):
        raise _unsafe("a part of a name is a device name on some systems")


def _unsafe(why: str) -> UnsafePathError:
    return UnsafePathError(
        what="A file name on the medium is not allowed",
        why=why,
        fix="Do not use this medium; ask the sender for a new one.",
    )
