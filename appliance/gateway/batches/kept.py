"""What a key has kept: its files, its batches, and how much that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

RUNS: Final = ("validating", "in_progress", "cancelling", "finalizing")
"""The states of a batch that has not ended."""
MOST_BYTES: Final = 256 * 1024 * 1024
"""How much a key keeps: its files, and the results of its batches that run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file as it is listed; times are seconds since 1970."""

    id: str
    key_id: str
    purpose: str
    bytes: int
    name: str
    created: int
    expires: int

    def to_json(self) -> dict[str, Any]:
        """Return OpenAI's object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created,
            "expires_at": self.expires,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch; `times` are the moments of its states by OpenAI's names, `faults` what is wrong with its input.

    `said` is what the headers said that it was made with: it holds for each of its lines.
    """

    id: str
    key_id: str
    certificate: str
    endpoint: str
    input: str
    status: str
    total: int
    created: int
    expires: int
    times: Mapping[str, int] = field(default_factory=dict)
    faults: Sequence[Mapping[str, Any]] = ()
    metadata: Mapping[str, str] | None = None
    said: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    errors: str | None = None
    done: int = 0
    failed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return OpenAI's object."""
        moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": list(self.faults)} if self.faults else None,
            "input_file_id": self.input,
            "completion_window": f"{(self.expires - self.created) // 3600}h",
            "status": self.status,
            "output_file_id": self.output,
            "error_file_id": self.errors,
            "created_at": self.created,
            "expires_at": self.expires,
            **{f"{one}_at": self.times.get(one) for one in moments},
            "request_counts": {"total": self.total, "completed": self.done, "failed": self.failed},
            "metadata": self.metadata,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a key has: files, batches that run, and the bytes of both: what was handed in and answered."""

    files: int
    bytes: int
    running: int
