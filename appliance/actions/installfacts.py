"""What an install did, or would do, as commands tell it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from appliance.install import carried


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallFacts:
    """What was installed and what was changed for it; `kept` came from the release `base`, unchanged."""

    serial: int
    release: str
    previous: int | None
    environments: dict[str, str]
    changed: bool
    host: str
    keys_made: list[str] = field(default_factory=list)
    difference: str = ""
    kind: str = carried.FULL
    base: int | None = None
    kept: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return asdict(self)
