"""The sections of the site file about engines, and about which version answers for the model `auto`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from appliance.sections import Section
from media.clock import from_text

_CARD = r"^(GPU|MIG)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_ATTACHED = r"^(|unix:/[^\s]{1,106}|127\.[0-9.]{5,11}:[0-9]{1,5}|\[::1\]:[0-9]{1,5})$"


def _a_moment(text: str) -> str:
    if text:
        from_text(text)
    return text


def _different(cards: list[int] | list[str]) -> list[int] | list[str]:
    if len(set(cards)) != len(cards):
        message = "a card is named twice"
        raise ValueError(message)
    return cards


Cards = Annotated[
    list[Annotated[int, Field(ge=0, le=63)]] | list[Annotated[str, Field(pattern=_CARD)]],
    Field(max_length=64),
    AfterValidator(_different),
]
"""Cards of this machine: by their numbers in the order of the bus, or by what the driver calls them; none means all."""


class EngineSection(Section):
    """How engines use this machine. `threads` 0 means all cores but one.

    `attached` is where an engine listens that somebody else runs, for trying one out in the test stage: a Unix socket
    or a port of loopback. Until `debug_until` (UTC), engines that start tell in the journal what they do, in counts.
    """

    threads: int = Field(default=0, ge=0)
    start_seconds: int = Field(default=300, ge=1)
    attached: Annotated[str, Field(pattern=_ATTACHED)] = ""
    debug_until: Annotated[str, AfterValidator(_a_moment)] = ""


class ProductionEngines(Section):
    """Which engines of the version in production run; versions beside it (a canary, the one before) have one each.

    `count` engines are alike. `overflow` adds one on the processor, for what engines on GPUs have no room for;
    `standby` one that is loaded and asked when all others are out. `sticky` keeps a conversation with one engine, which
    has read its beginning. `gpus` are the cards that engines of production see.
    """

    count: int = Field(default=1, ge=1, le=9)
    overflow: Literal["", "cpu"] = ""
    standby: bool = False
    sticky: bool = True
    gpus: Cards = Field(default=[])

    @property
    def further(self) -> tuple[str, ...]:
        """What engines besides the first are called, in the order in which memory is given to them."""
        alike = tuple(str(number) for number in range(2, self.count + 1))
        return (*alike, *((self.overflow,) if self.overflow else ()), *(("standby",) if self.standby else ()))


class RouterRule(Section):
    """Which version answers requests for the model `auto` of these kinds; what is left empty holds for all.

    `model` is a NAME, NAME:VERSION or the beginning of a digest; `classes` are those of X-Sealift-Classification, and
    PHI where identifiers were found; `tasks` are what callers name in X-Sealift-Task.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    model: str = Field(min_length=1, max_length=200)
    departments: list[str] = Field(default=[])
    classes: list[Literal["PHI", "PII", "CONFIDENTIAL", "SECRET", "PUBLIC", "UNKNOWN"]] = Field(default=[])
    tasks: list[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]] = Field(default=[])
    endpoints: list[Literal["chat", "completions"]] = Field(default=[])
    least_characters: int = Field(default=0, ge=0)
    most_characters: int = Field(default=0, ge=0)


class RouterSection(Section):
    """The site's rules for the model `auto`, the first that applies decides; without any there is no such model."""

    rules: list[RouterRule] = Field(default=[], max_length=64)


class StagedEngines(Section):
    """What engines of the test stage see; there is one of each version."""

    gpus: Cards = Field(default=[])


class EnginesSection(Section):
    """How many engines each stage has, and on which cards."""

    production: ProductionEngines = ProductionEngines()
    test: StagedEngines = StagedEngines()
