"""Whether the other voters of the lease answer: noted by the keeper, and told beside the permit to whoever watches.

A voter that falls silent changes nothing by itself, which is why it has to be told: with the next failure nobody would
serve. A box that stands by asks, too, since what it would be granted matters only when it is too late to look. The file
lies below /run and says how it stood when it last changed; where it is absent, no keeper runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.standby import volatile
from media import canonical
from media.errors import MediaError

FILE: Final = "voters"
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
        """Write how it stands, where that is news.

        Raises:
            OSError: It could not be written.
        """
        found = self.voters(now)
        standing = tuple((one.name, one.answers) for one in found)
        if standing == self._told:
            return
        volatile.write(folder / FILE, {"voters": [one.to_json() for one in found]})
        self._told = standing


def take_away(folder: Path) -> None:
    """Remove what was told: nobody asks any more."""
    (folder / FILE).unlink(missing_ok=True)


def read(folder: Path) -> tuple[Voter, ...]:
    """Return the other voters as the keeper last told; none where no keeper runs, or on a witness."""
    try:
        untrusted = volatile.read(folder / FILE, most_bytes=_MOST_BYTES)
        fields = canonical.exact_keys(untrusted, ("voters",), what="voters")
        return tuple(_voter(one) for one in canonical.array(fields["voters"], "voters", most=8))
    except (OSError, MediaError):
        return ()


def silence(name: str, seconds: float, *, is_witness: bool) -> str:
    """Return how long a voter has not answered, as people read it."""
    return f"{_shown(name, is_witness=is_witness)} has not answered for {max(seconds, 0):.0f} s"


def silent(folder: Path) -> tuple[Voter, ...]:
    """Return those that do not answer."""
    return tuple(one for one in read(folder) if not one.answers)


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
