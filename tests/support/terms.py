"""Targets metadata for tests: small files with true digests, large ones with invented blocks."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from media.digest import payload_digest, sha256_hex
from media.layout import BLOCK_BYTES
from media.release import Target


def small_target(path: str, data: bytes, kind: str = "model") -> Target:
    """Return the target of a file of at most one block."""
    digest = sha256_hex(data)
    return Target(path=path, length=len(data), sha256=digest, kind=kind, blocks=(digest,) if data else ())


def large_target(path: str, length: int, kind: str = "weights") -> Target:
    """Return a target of any length whose digests belong to no bytes."""
    count = -(-length // BLOCK_BYTES)
    blocks = tuple(hashlib.sha256(f"{path}:{number}".encode()).hexdigest() for number in range(count))
    whole = blocks[0] if count == 1 else hashlib.sha256(path.encode()).hexdigest()
    return Target(path=path, length=length, sha256=whole, kind=kind, blocks=blocks)


def targets_signed(targets: Iterable[Target], /, **facts: Any) -> dict[str, Any]:
    """Return the `signed` part of targets metadata for these targets."""
    listed = list(targets)
    return {
        "_type": "targets",
        "spec_version": "1.0.31",
        "version": facts.pop("serial", 7),
        "expires": "9999-12-31T23:59:59Z",
        "targets": {each.path: target_json(each) for each in listed},
        "x-sealift": {
            "format": 1,
            "product": "sealift",
            "release": "2026.11",
            "created": "2026-11-01T08:00:00Z",
            "sites": ["clinic-a"],
            "targets": [machine_json()],
            "payload_digest": payload_digest((each.path, each.length, each.sha256) for each in listed),
            **facts,
        },
        "x-sealift-checkpoints": {},
    }


def target_json(target: Target) -> dict[str, Any]:
    """Return a target as metadata lists it."""
    return {
        "length": target.length,
        "hashes": {"sha256": target.sha256},
        "custom": {"kind": target.kind, "block_size": BLOCK_BYTES, "blocks": list(target.blocks)},
    }


def machine_json() -> Mapping[str, Any]:
    """Return one kind of machine."""
    return {
        "profile": "cpu-avx2",
        "python": "3.11",
        "platform": "linux_x86_64",
        "glibc": "2.36",
        "cpu_flags": ["avx2", "fma"],
    }
