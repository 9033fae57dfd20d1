"""What release people sign: the facts of a release, its targets, and the date people chose (FMT-60 to FMT-69)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from media import canonical, digest, layout, limits
from media.errors import DigestMismatchError, LimitExceededError, MalformedError, UnsupportedFormatError

PRODUCT: Final = "sealift"

_SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_FLAG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}", re.ASCII)
_TARGETS_FIELDS: Final = (
    "_type",
    "expires",
    "spec_version",
    "targets",
    "version",
    "x-sealift",
    "x-sealift-checkpoints",
)


class Kind(StrEnum):
    """What a target is for."""

    WEIGHTS = "weights"
    MODEL = "model"
    WHEEL = "wheel"
    DEB = "deb"
    SERVER = "server"
    HOST = "host"
    EVAL = "eval"
    RELEASE = "release"
    ATTESTATION = "attestation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One whole file of a release, whatever volumes carry it.

    Args:
        path: Below `release/`.
        length: Its size in bytes.
        sha256: Of the whole file; names the object in the store.
        kind: From `Kind`.
        blocks: SHA-256 of each 64 MiB block, the last one shorter; none for an empty file.
    """

    path: str
    length: int
    sha256: str
    kind: str
    blocks: tuple[str, ...]

    def block_length(self, number: int) -> int:
        """Return the size in bytes of one block."""
        return min(layout.BLOCK_BYTES, self.length - number * layout.BLOCK_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetMachine:
    """A kind of machine that a release is for.

    Args:
        profile: Its name, such as "cpu-avx2".
        python: Version of the interpreter, such as "3.11".
        platform: Such as "linux_x86_64".
        glibc: The least version.
        cpu_flags: What the processor must have.
        gpu: The kind of GPU, or empty.
        driver: The least version of its driver, or empty.
    """

    profile: str
    python: str
    platform: str
    glibc: str
    cpu_flags: tuple[str, ...]
    gpu: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPoint:
    """Size and root hash of a site's ledger, as its last receipt stated them."""

    size: int
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTerms:
    """The facts that people sign about a release.

    Args:
        release: Its name.
        serial: Rises with every release of a site; the version of targets and snapshot.
        created: When it was assembled.
        sites: For whom it is.
        machines: For what it is.
        payload_digest: Names all files below data/.
        checkpoints: What the sender knows of the sites' ledgers, by origin.
    """

    release: str
    serial: int
    created: datetime
    sites: tuple[str, ...]
    machines: tuple[TargetMachine, ...]
    payload_digest: str
    checkpoints: Mapping[str, LedgerPoint] = field(hash=False)

    @classmethod
    def from_targets(cls, signed: Mapping[str, Any]) -> Self:
        """Read the terms from the `signed` part of targets metadata, parsed by `canonical.loads`.

        Raises:
            DigestMismatchError: The payload digest is not that of the listed targets.
            LimitExceededError: More targets than a release may have.
            MalformedError: A field is wrong.
            UnsafePathError: A target's name is.
            UnsupportedFormatError: A later version of the format.
        """
        return cls.with_targets(signed)[0]

    @classmethod
    def with_targets(cls, signed: Mapping[str, Any]) -> tuple[Self, dict[str, Target]]:
        """Read the terms and, once, the targets: as `from_targets` and `targets_from`.

        Raises:
            MediaError: As `from_targets`.
        """
        value = canonical.exact_keys(dict(signed), _TARGETS_FIELDS, (), "The targets metadata")
        if value["_type"] != "targets":
            raise _malformed("The targets metadata", "its type is another")
        facts = _facts(value["x-sealift"])
        targets = targets_from(signed)
        expected = digest.payload_digest((each.path, each.length, each.sha256) for each in targets.values())
        if not digest.same(expected, canonical.sha256_hex(facts["payload_digest"], "The payload digest")):
            raise DigestMismatchError(
                what="The payload digest does not fit the targets",
                why=f"expected {expected[:12]}, found {facts['payload_digest'][:12]}",
                fix="Do not use this medium; ask the sender for a new one.",
            )
        machines = canonical.array(facts["targets"], "The target machines", most=limits.TARGET_MACHINES)
        terms = cls(
            release=layout.require_release_name(canonical.text(facts["release"], "The release name")),
            serial=canonical.integer(value["version"], "The serial", minimum=1, maximum=limits.SERIAL_MAX),
            created=canonical.moment(facts["created"], "The time of creation"),
            sites=_sites(facts["sites"]),
            machines=tuple(_machine(each) for each in machines),
            payload_digest=expected,
            checkpoints=_checkpoints(value["x-sealift-checkpoints"]),
        )
        return terms, targets


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleAfter:
    """The date that people chose, from timestamp metadata.

    Args:
        at: After this the release is stale, which people of the site may override by name.
        version: Of the timestamp; rises with every signing, also of the same serial.
    """

    at: datetime
    version: int

    @classmethod
    def from_timestamp(cls, signed: Mapping[str, Any]) -> Self:
        """Read the date from the `signed` part of timestamp metadata.

        Raises:
            MalformedError: A field is wrong.
        """
        value = canonical.mapping(dict(signed), "The timestamp metadata")
        if value.get("_type") != "timestamp":
            raise _malformed("The timestamp metadata", "its type is another")
        return cls(
            at=canonical.moment(value.get("x-sealift-stale-after"), "The date after which the release is stale"),
            version=canonical.integer(value.get("version"), "The timestamp's version", minimum=1),
        )

    def has_passed(self, reference: datetime) -> bool:
        """Tell whether the date lies before the reference time, max(clock, floor)."""
        return reference > self.at


def require_site_name(untrusted: str) -> str:
    """Return a site's name: lower case, digits, hyphen, at most 64 characters (FMT-5).

    Raises:
        MalformedError: It is anything else.
    """
    if not _SITE.fullmatch(untrusted):
        raise _malformed("The name of a site", "expected at most 64 of a-z 0-9 -")
    return untrusted


def targets_from(signed: Mapping[str, Any]) -> dict[str, Target]:
    """Return the targets by path, sorted, from the `signed` part of targets metadata.

    Raises:
        LimitExceededError: More targets than a release may have.
        MalformedError: A field is wrong, or the blocks do not fit the length.
        UnsafePathError: A path is not one that a medium may hold, or two would be one file.
    """
    listed = canonical.mapping(signed.get("targets"), "The targets")
    if len(listed) > limits.FILES:
        raise LimitExceededError(
            what="The release has too many files",
            why=f"{len(listed)}, at most {limits.FILES} are read",
            fix="Ask the sender for a smaller release.",
        )
    found = {path: _target(path, value) for path, value in sorted(listed.items())}
    layout.require_distinct(found)
    return found


def _target(path: str, untrusted: Any) -> Target:
    parts = layout.safe_path(path).parts
    if len(parts) < 2 or parts[0] not in {layout.DATA, layout.ATTEST}:
        raise _malformed("A target", "its path is neither below data/ nor below attest/")
    what = f"The target {path}"
    value = canonical.exact_keys(untrusted, ("custom", "hashes", "length"), (), what)
    hashes = canonical.exact_keys(value["hashes"], ("sha256",), (), what)
    custom = canonical.exact_keys(value["custom"], ("block_size", "blocks", "kind"), (), what)
    length = canonical.integer(value["length"], what, maximum=limits.BLOCKS_PER_FILE * layout.BLOCK_BYTES)
    whole = canonical.sha256_hex(hashes["sha256"], what)
    blocks = tuple(
        canonical.sha256_hex(each, what)
        for each in canonical.array(custom["blocks"], what, most=limits.BLOCKS_PER_FILE)
    )
    kind = canonical.one_of(custom["kind"], Kind, what)
    if canonical.integer(custom["block_size"], what) != layout.BLOCK_BYTES:
        raise _malformed(what, f"this format version has blocks of {layout.BLOCK_BYTES} bytes")
    if len(blocks) != -(-length // layout.BLOCK_BYTES):
        raise _malformed(what, "the number of its blocks does not fit its length")
    if len(blocks) == 1 and blocks[0] != whole:
        raise _malformed(what, "its only block has another digest than the whole")
    if (kind == Kind.ATTESTATION) != (parts[0] == layout.ATTEST):
        raise _malformed(what, "attestations lie below attest/, and nothing else does")
    if len(blocks) == 1:
        blocks = (whole,)  # the same text once: releases have many thousand files
    return Target(path=path, length=length, sha256=whole, kind=str(kind), blocks=blocks)


def _facts(untrusted: Any) -> dict[str, Any]:
    what = "The facts of the release"
    version = canonical.integer(canonical.mapping(untrusted, what).get("format"), what, minimum=1)
    if version > layout.FORMAT:
        raise UnsupportedFormatError(
            what=f"The release has format version {version}",
            why=f"this program reads version {layout.FORMAT}",
            fix="Install a release that reads it first; ask the sender which one.",
        )
    fields = ("created", "format", "payload_digest", "product", "release", "sites", "targets")
    facts = canonical.exact_keys(untrusted, fields, (), what)
    if facts["product"] != PRODUCT:
        raise _malformed(what, f"the product is not {PRODUCT}")
    return facts


def _sites(untrusted: Any) -> tuple[str, ...]:
    sites = tuple(canonical.text(each, "A site") for each in canonical.array(untrusted, "The sites", most=limits.SITES))
    if not sites or len(set(sites)) != len(sites) or not all(_SITE.fullmatch(each) for each in sites):
        raise _malformed("The sites", "expected at least one name of a-z 0-9 -, each once")
    return sites


def _machine(untrusted: Any) -> TargetMachine:
    what = "A target machine"
    required = ("cpu_flags", "glibc", "platform", "profile", "python")
    value = canonical.exact_keys(untrusted, required, ("driver", "gpu"), what)
    flags = tuple(canonical.text(each, what) for each in canonical.array(value["cpu_flags"], what, most=256))
    if not all(_FLAG.fullmatch(each) for each in flags):
        raise _malformed(what, "a CPU flag is not of a-z 0-9 _ . -")
    return TargetMachine(
        profile=canonical.text(value["profile"], what, most=64),
        python=canonical.text(value["python"], what, most=16),
        platform=canonical.text(value["platform"], what, most=64),
        glibc=canonical.text(value["glibc"], what, most=16),
        cpu_flags=flags,
        gpu=canonical.text(value.get("gpu", ""), what, most=64, may_be_empty=True),
        driver=canonical.text(value.get("driver", ""), what, most=64, may_be_empty=True),
    )


def _checkpoints(untrusted: Any) -> dict[str, LedgerPoint]:
    listed = canonical.mapping(untrusted, "The checkpoints")
    if len(listed) > limits.CHECKPOINTS:
        raise _malformed("The checkpoints", f"more than {limits.CHECKPOINTS}")
    found = {}
    for origin, each in listed.items():
        value = canonical.exact_keys(each, ("root", "size"), (), "A checkpoint")
        found[canonical.text(origin, "A checkpoint's origin", most=256)] = LedgerPoint(
            size=canonical.integer(value["size"], "A checkpoint's size"),
            root=canonical.sha256_hex(value["root"], "A checkpoint's root hash"),
        )
    return found


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(
        what=f"{what} is malformed",
        why=why,
        fix="Do not use this medium; ask the sender for a new one.",
    )
