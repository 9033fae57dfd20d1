"""One thing that `sealift doctor` looked at: what it is, whether it is good, why it matters, what helps."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        is_good: Whether it is as it should be; None where it is only worth knowing.
        text: What was found.
        why: Why it matters.
        fix: What a person does.
        repair: What `--mend` would do, by the name of the repair and what it is done to; empty when a person has to.
    """

    name: str
    is_good: bool | None
    text: str
    why: str = ""
    fix: str = ""
    repair: tuple[str, str] | tuple[()] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the finding's fields."""
        return asdict(self)
