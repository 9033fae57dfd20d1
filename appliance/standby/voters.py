"""Whether the other voters of the lease answer: noted by the keeper, and told beside the permit to whoever watches.

A voter that falls silent changes nothing by itself, which is why it has to be told: with the next failure nobody would
serve. A box that stands by asks, too, since what it would be granted matters only when it is too late to look. The file
lies below /run and is written anew when that changes, and every few seconds; where it is absent or old, no keeper runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.standby import volatile
from appliance.standby.permit import boottime
from media import canonical
from media.errors import MediaError

FILE: Final = "voters"
LASTS_SECONDS: Final = 30.0
"""How old what was told may be: a keeper that was killed, or hangs, tells nothing more and cannot take it away."""
_AGAIN_SECONDS: Final = 10.0
_MOST_BYTES: Final = 4096
_KEYS: Final = ("name", "witness", "answers", "since_milliseconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Voter:
    """Another voter as this box hears it; `since` is when it last answered, or when this process began to ask."""

    name: str
    is_witness: bool
    answers: bool
    since: float

    @property
    def shown(self) -> str:
        """Its name as people read it."""
        return _shown(self.name, is_witness=self.is_witness)

    @property
    def consequence(self) -> str:
        """What its silence means."""
        if self.is_witness:
            return "neither box takes over by itself, and the one that serves stops when the other falls silent, too"
        return "it may be down, and then nobody stands by"

    def shown_at(self, now: float) -> dict[str, Any]:
        """Return the fields as people are told them at a moment."""
        silent = round(max(now - self.since, 0.0), 1)
        return {"name": self.name, "witness": self.is_witness, "answers": self.answers, "silent_seconds": silent}

    def to_json(self) -> dict[str, Any]:
        """Return the fields, as they are written."""
        values = (self.name, self.is_witness, self.answers, int(self.since * 1000))
        return dict(zip(_KEYS, values, strict=True))


class Hearing:
    """When each other voter last answered.

    Args:
        names: The other voters.
        witness: Which of them is the witness; empty for none.
        started: When this process began to ask, in seconds of CLOCK_BOOTTIME.
        patience: Seconds after which one that did not answer is silent.
    """

    def __init__(self, names: Iterable[str], *, witness: str, started: float, patience: float) -> None:
        self._last: dict[str, float | None] = dict.fromkeys(names)
        self._witness = witness
        self._started = started
        self._patience = patience
        self._told: tuple[tuple[str, bool], ...] | None = None
        self._told_at = started

    def heard(self, name: str, now: float) -> None:
        """Note an answer."""
        self._last[name] = now

    def has_answered(self, name: str, now: float) -> bool:
        """Tell whether a voter answered just now; one that was not heard yet has not."""
        last = self._last.get(name)
        return last is not None and now - last <= self._patience

    def voters(self, now: float) -> tuple[Voter, ...]:
        """Return all of them; one that had no time to answer yet is not silent."""
        since = {name: self._started if last is None else last for name, last in self._last.items()}
        return tuple(
            Voter(name=name, is_witness=name == self._witness, answers=now - at <= self._patience, since=at)
            for name, at in since.items()
        )

    def tell(self, folder: Path, now: float) -> None:
        """Write how it stands, where that is news, or what stands there grows old.

        Raises:
            OSError: It could not be written.
        """
        found = self.voters(now)
        standing = tuple((one.name, one.answers) for one in found)
        if standing == self._told and now - self._told_at < _AGAIN_SECONDS:
            return
        said = {"voters": [one.to_json() for one in found], "at_milliseconds": int(now * 1000)}
        volatile.write(folder / FILE, said)
        self._told, self._told_at = standing, now


def take_away(folder: Path) -> None:
    """Remove what was told: nobody asks any more."""
    (folder / FILE).unlink(missing_ok=True)


def read(folder: Path, now: float | None = None) -> tuple[Voter, ...]:
    """Return the other voters as the keeper tells; none where no keeper runs, or on a witness.

    Args:
        folder: Of the permit.
        now: Seconds of CLOCK_BOOTTIME; by default those of this moment.
    """
    try:
        untrusted = volatile.read(folder / FILE, most_bytes=_MOST_BYTES)
        fields = canonical.exact_keys(untrusted, ("voters", "at_milliseconds"), what="voters")
        at = canonical.integer(fields["at_milliseconds"], "voters.at_milliseconds") / 1000
        if not 0 <= (boottime() if now is None else now) - at <= LASTS_SECONDS:
            return ()
        return tuple(_voter(one) for one in canonical.array(fields["voters"], "voters", most=8))
    except (OSError, MediaError):
        return ()


def silence(name: str, seconds: float, *, is_witness: bool) -> str:
    """Return how long a voter has not answered, as people read it."""
    return f"{_shown(name, is_witness=is_witness)} has not answered for {max(seconds, 0):.0f} s"


def silent(folder: Path, now: float | None = None) -> tuple[Voter, ...]:
    """Return those that do not answer; see `read`."""
    return tuple(one for one in read(folder, now) if not one.answers)


def _shown(name: str, *, is_witness: bool) -> str:
    return f"the {'witness' if is_witness else 'other box'} {name}"


def _voter(untrusted: object) -> Voter:
    fields = canonical.exact_keys(untrusted, _KEYS, what="voter")
    return Voter(
        name=canonical.text(fields["name"], "voter.name", most=32),
        is_witness=canonical.boolean(fields["witness"], "voter.witness"),
        answers=canonical.boolean(fields["answers"], "voter.answers"),
        since=canonical.integer(fields["since_milliseconds"], "voter.since_milliseconds") / 1000,
    )
