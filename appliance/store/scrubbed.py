"""Where a scrub stands and what the last one found: one small file, written whole, read by status, doctor and the page.

A scrub of the whole store takes hours at a pace that leaves the disk to others. What was proven up to a name is kept,
so that a restart goes on behind it. A file that does not read counts for nothing: the scrub begins anew.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from appliance.store.spoilt import MOST
from appliance.store.writing import writing
from media import canonical, durable
from media.clock import from_text, to_text
from media.errors import MediaError

FORMAT: Final = 1
FILE: Final = "scrub.json"
_MAX_BYTES: Final = 16 * 2**20


@dataclass(slots=True, kw_only=True)
class Pass:
    """One reading of the whole store.

    Args:
        begun: When.
        ended: When; None while it goes on.
        after: Name of the object that was read last.
        objects: How many were read.
        bytes: Of them.
        bad: Findings, all counted.
        findings: The first of them.
    """

    begun: datetime
    ended: datetime | None = None
    after: str = ""
    objects: int = 0
    bytes: int = 0
    bad: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for the file and for answers."""
        return {
            "begun": to_text(self.begun),
            "ended": None if self.ended is None else to_text(self.ended),
            "after": self.after,
            "objects": self.objects,
            "bytes": self.bytes,
            "bad": self.bad,
            "findings": self.findings,
        }

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Read the fields.

        Raises:
            MediaError, KeyError: They do not read.
        """
        what = "The state of scrubbing"
        value = canonical.mapping(untrusted, what)
        ended, after = value["ended"], value["after"]
        return cls(
            begun=canonical.moment(value["begun"], what),
            ended=None if ended is None else canonical.moment(ended, what),
            after=canonical.sha256_hex(after, what) if after else "",
            objects=canonical.integer(value["objects"], what, minimum=0),
            bytes=canonical.integer(value["bytes"], what, minimum=0),
            bad=canonical.integer(value["bad"], what, minimum=0),
            findings=[
                dict(canonical.mapping(each, what)) for each in canonical.array(value["findings"], what, most=MOST)
            ],
        )


@dataclass(slots=True, kw_only=True)
class ScrubState:
    """The pass that goes on, and the last one that came to its end."""

    running: Pass | None = None
    last: Pass | None = None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the state; nothing where there is none or it does not read."""
        try:
            untrusted = canonical.loads((folder / FILE).read_bytes(), max_bytes=_MAX_BYTES)
            value: Mapping[str, Any] = canonical.mapping(untrusted, "The state of scrubbing")
            if value["format"] != FORMAT:
                return cls()
            running, last = (
                None if value[name] is None else Pass.from_json(value[name]) for name in ("running", "last")
            )
        except (OSError, MediaError, KeyError):
            return cls()
        return cls(running=running, last=last)

    def save(self, folder: Path) -> None:
        """Write the state durably.

        Raises:
            NoSpaceError, StoreWriteError: It cannot be written.
        """
        value = {
            "format": FORMAT,
            "running": None if self.running is None else self.running.to_json(),
            "last": None if self.last is None else self.last.to_json(),
        }
        with writing("the state of scrubbing"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            durable.replace(folder / FILE, canonical.dumps(value), mode=0o644)


def reference(state: ScrubState, received: list[str]) -> datetime | None:
    """Return when the store was last known to hold: the end of the last pass, else the first receive; None if empty."""
    if state.last is not None and state.last.ended is not None:
        return state.last.ended
    moments = []
    for each in received:
        with suppress(ValueError):  # a record that the disk changed; the scrub finds it
            moments.append(from_text(each))
    return min(moments, default=None)
