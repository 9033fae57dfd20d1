"""One line of the status, as every part of it is told."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One line of the status: its name, whether it is as it should be (None: nothing to judge), words and fields."""

    name: str
    is_good: bool | None
    text: str
    fields: dict[str, Any]
