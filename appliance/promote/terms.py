"""What a canary runs on: which version, for which share of the callers, for how long; part of a promotion's file.

Whole numbers only, so that a file has one byte form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from appliance.errors import ConflictError
from media import canonical

PERCENT: Final = 20
HOURS: Final = 48
WATCH_HOURS: Final = 48
MOST_HOURS: Final = 31 * 24
_FIELDS: Final = ("version", "percent", "hours", "watch_hours")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a step of a rollout is about.

    Attributes:
        version: The candidate; in a retirement the version that is retired.
        percent: The share of callers that reach the candidate, of 100.
        hours: How long it runs, the time on hold not counted.
        watch_hours: How long the version before stays loaded after the cut-over; 0 where memory holds one version.
    """

    version: str
    percent: int = 0
    hours: int = 0
    watch_hours: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse what `to_json` gave.

        Raises:
            MalformedError: A field is missing, unknown or out of its bounds.
        """
        fields: Mapping[str, Any] = canonical.exact_keys(untrusted, _FIELDS, what="terms")
        return cls(
            version=canonical.sha256_hex(fields["version"], "terms.version"),
            percent=canonical.integer(fields["percent"], "terms.percent", maximum=100),
            hours=canonical.integer(fields["hours"], "terms.hours", maximum=MOST_HOURS),
            watch_hours=canonical.integer(fields["watch_hours"], "terms.watch_hours", maximum=MOST_HOURS),
        )

    def require_sensible(self) -> None:
        """Return when a canary can run on these.

        Raises:
            ConflictError: The share is not below all callers, or there is no time.
        """
        if not 1 <= self.percent <= 50 or not 1 <= self.hours <= MOST_HOURS:
            raise ConflictError(
                what="a canary cannot run on these terms",
                why=f"{self.percent} % of the callers for {self.hours} hours",
                fix=f"give 1 to 50 %, and 1 to {MOST_HOURS} hours",
            )
