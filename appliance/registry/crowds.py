"""Limits for a number of people (J26): how many answers at once, how many questions wait, how long they may be.

Starting points by the requirements' scales (B25 to B30), not figures of a machine: `sealift capacity` measures how many
answers at once are worth it, and `limits.concurrent_requests` follows what the engines of production answer at once.
"""

from dataclasses import dataclass
from typing import Any, Final

from media.errors import UsageError

MOST_PEOPLE: Final = 100_000
_MOST_WAITING: Final = 1024  # limits.queue_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """The limits for so many people.

    Attributes:
        scale: small (under 50 people), medium (50 to 200) or large (more).
        people: So many.
        answers_at_once: Of all engines of production together; what `n_seq_max` of the version makes times engines.
        input_tokens: Of one prompt.
        answer_tokens: Where a request names none.
        waiting: Questions that wait for a place, so that everybody may have one under way.
        wait_seconds: How long one waits.
        requests_per_minute: Of one key, since an application's key speaks for all of its people.
    """

    scale: str
    people: int
    answers_at_once: int
    input_tokens: int
    answer_tokens: int
    waiting: int
    wait_seconds: int
    requests_per_minute: int

    @property
    def tokens(self) -> int:
        """Places of the cache of keys and values that this many full answers take; the versions' `n_ctx` together."""
        return self.answers_at_once * (self.input_tokens + self.answer_tokens)

    @property
    def limits(self) -> dict[str, int]:
        """The keys of the site file's section `limits`."""
        return {
            "concurrent_requests": self.answers_at_once,
            "queue_length": self.waiting,
            "queue_seconds": self.wait_seconds,
            "requests_per_minute": self.requests_per_minute,
            "input_tokens": self.input_tokens,
            "default_max_tokens": self.answer_tokens,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return {**own, "tokens": self.tokens, "limits": self.limits}


# From how many people on; answers at once; requests a second of all (B26, B28, B30); seconds to wait.
_SCALES: Final = (
    (201, "large", 256, 100, 60),
    (50, "medium", 64, 50, 30),
    (1, "small", 16, 10, 30),
)


def crowd(people: int) -> Crowd:
    """Return the limits for so many people.

    Raises:
        UsageError: Nobody, or more than a box is made for.
    """
    if not 1 <= people <= MOST_PEOPLE:
        raise UsageError(
            what="no limits can be named for so many people", why=f"1 to {MOST_PEOPLE}", fix="give how many will ask"
        )
    _, scale, at_once, per_second, seconds = next(row for row in _SCALES if people >= row[0])
    return Crowd(
        scale=scale,
        people=people,
        answers_at_once=at_once,
        input_tokens=4096,
        answer_tokens=1024,
        waiting=min(_MOST_WAITING, max(people, at_once)),
        wait_seconds=seconds,
        requests_per_minute=per_second * 60,
    )
