"""From when on an answer counts as slow in a canary's judgement: fixed before the requests that it judges.

Production's own recent requests say what is usual. The callers of the share and the others may differ (an application
with long prompts), so where enough is known of both, each group is measured by what it was itself before the canary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

SLACK_FACTOR: Final = 1.25
SLACK_MS: Final = 20
OWN_LIMIT_FROM: Final = 1000
COMMON_LIMIT_FROM: Final = 200
_QUANTILE: Final = 0.9


@dataclass(slots=True)
class SpeedLimits:
    """The limits of one kind of answers, streamed (to the first token) or whole; times in milliseconds."""

    before: dict[bool, list[int]] = field(default_factory=lambda: {True: [], False: []})
    learned: list[int] = field(default_factory=list)
    _own: dict[bool, int] = field(default_factory=dict)
    _common: int | None = None

    def saw_before(self, milliseconds: int, *, in_share: bool) -> None:
        """Take a request from before the canary, by whether its caller is in the share now."""
        self.before[in_share].append(milliseconds)

    def begin(self) -> None:
        """Fix what the time before the canary says."""
        both = [*self.before[True], *self.before[False]]
        if min(len(self.before[True]), len(self.before[False])) >= OWN_LIMIT_FROM:
            self._own = {group: limit_of(found) for group, found in self.before.items()}
        elif len(both) >= COMMON_LIMIT_FROM:
            self._common = limit_of(both)

    def limit(self, *, in_share: bool) -> int | None:
        """Return the limit; None while nothing is known yet."""
        return self._own.get(in_share, self._common)

    def learn(self, milliseconds: int) -> None:
        """Take one of production's requests during the canary, while no limit is known."""
        if self._own or self._common is not None:
            return
        self.learned.append(milliseconds)
        if len(self.learned) >= COMMON_LIMIT_FROM:
            self._common = limit_of(self.learned)


def limit_of(milliseconds: Sequence[int]) -> int:
    """Return the limit that these times give: one in ten was slower, and some slack, for what nobody notices."""
    place = min(math.ceil(_QUANTILE * len(milliseconds)), len(milliseconds)) - 1
    return round(sorted(milliseconds)[place] * SLACK_FACTOR) + SLACK_MS
