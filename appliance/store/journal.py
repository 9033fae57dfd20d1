"""What survives a power cut: a line for each object that is complete, and the proven blocks of others.

A line is written only after the bytes it speaks of are durable. The journal belongs to one payload, however it was
signed; with any other, or when its first line is damaged, it counts for nothing. A torn last line is dropped. Blocks of
an unfinished object are hashed again on resume, whatever the journal says; complete objects are taken from it, unless
`--full`.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from appliance.store.writing import writing
from media import canonical
from media.errors import MediaError

FORMAT: Final = 2
_MAX_BYTES: Final = 64 * 2**20


@dataclass(slots=True, kw_only=True)
class Journal:
    """The journal of one release on its way. Used by one thread at a time."""

    descriptor: int
    complete: dict[str, int] = field(default_factory=dict)
    blocks: dict[str, set[int]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, *, payload_digest: str, full: bool) -> Self:
        """Continue the journal of this very payload, or begin one.

        Args:
            path: The journal's file.
            payload_digest: The payload it belongs to.
            full: Forget what it says and check everything again.

        Raises:
            StoreWriteError: It cannot be written.
        """
        head = _head(payload_digest)
        complete: dict[str, int] = {}
        blocks: dict[str, set[int]] = {}
        good_bytes = 0 if full else _replay(path, head, complete=complete, blocks=blocks)
        with writing("the journal"):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
            os.ftruncate(descriptor, good_bytes)
        journal = cls(descriptor=descriptor, complete=complete, blocks=blocks)
        if not good_bytes:
            journal._append([head])
        return journal

    def record_complete(self, objects: dict[str, int]) -> None:
        """Say that these objects (digest: length) are durable and proven."""
        self.complete.update(objects)
        self._append([{"object": sha256, "length": length} for sha256, length in objects.items()])

    def record_blocks(self, objects: Mapping[str, Iterable[int]]) -> None:
        """Say that these blocks of unfinished objects are durable and proven, in any order."""
        listed = {sha256: sorted(numbers) for sha256, numbers in objects.items()}
        for sha256, numbers in listed.items():
            self.blocks.setdefault(sha256, set()).update(numbers)
        self._append([{"object": sha256, "blocks": numbers} for sha256, numbers in listed.items()])

    def close(self) -> None:
        """Release the file."""
        os.close(self.descriptor)

    def _append(self, lines: list[dict[str, Any]]) -> None:
        with writing("the journal"):
            data = b"".join(canonical.dumps(line) + b"\n" for line in lines)
            view = memoryview(data)
            while view:
                view = view[os.write(self.descriptor, view) :]
            os.fdatasync(self.descriptor)


def is_journal_of(path: Path, payload_digest: str) -> bool:
    """Tell whether a journal belongs to a payload; one that does not read belongs to none."""
    wanted = canonical.dumps(_head(payload_digest)) + b"\n"
    try:
        with path.open("rb") as stream:
            return stream.read(len(wanted)) == wanted
    except OSError:
        return False


def _head(payload_digest: str) -> dict[str, Any]:
    return {"format": FORMAT, "payload_digest": payload_digest}


def _replay(path: Path, head: dict[str, Any], *, complete: dict[str, int], blocks: dict[str, set[int]]) -> int:
    """Fill both mappings and return how many bytes of the file were understood."""
    try:
        data = path.read_bytes()[:_MAX_BYTES]
    except OSError:
        return 0
    first, *lines = data.split(b"\n")[:-1] or [b""]
    if first != canonical.dumps(head):
        return 0
    good_bytes = len(first) + 1
    for line in lines:
        try:
            entry = canonical.loads(line)
            sha256 = str(entry["object"])
            if "length" in entry:
                complete[sha256] = int(entry["length"])
                blocks.pop(sha256, None)
            else:
                numbers = [int(number) for number in entry["blocks"]]
                blocks.setdefault(sha256, set()).update(numbers)
        except (MediaError, KeyError, TypeError, ValueError):
            break
        good_bytes += len(line) + 1
    return good_bytes
