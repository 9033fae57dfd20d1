"""Whether to serve a model oneself: the decision matrix, from what an organisation says of itself (A16 to A23, M8).

Some reasons decide alone: data or a law that forbids another's machines, or a place without a network. Otherwise eight
factors are weighed, one voice each. The reasons for a provider are said as plainly as those against one.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from media import toml
from media.errors import UsageError

FORMAT: Final = 1
Side = Literal["own", "provider", "either"]
_MANY_TOKENS: Final = 1_000_000
_FEW_TOKENS: Final = 100_000
_MANY_REQUESTS: Final = 100.0
_SHORT_MS: Final = 50.0
_INTERNET_MS: Final = 500.0
_LARGE_BILL: Final = 50_000.0
_DECIDING_DATA: Final = frozenset({"health", "personal", "classified"})


class Facts(BaseModel):
    """What an organisation says of itself; see docs/operator/deciding.md for each key."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    format: Literal[1]
    data: Literal["health", "personal", "classified", "proprietary", "public"]
    regulations: Annotated[
        list[Literal["HIPAA", "PCI-DSS", "SOX", "ITAR", "FedRAMP", "GDPR"]], Field(max_length=6)
    ] = []
    secrets: Annotated[list[Literal["source-code", "product-docs", "strategy", "patents"]], Field(max_length=4)] = []
    place: Literal["air-gapped", "on-premises", "edge", "connected"] = "connected"
    tokens_per_day: Annotated[int, Field(ge=0)] = 0
    requests_per_second: Annotated[float, Field(ge=0, strict=False)] = 0.0
    use: Literal["sustained", "seasonal", "prototype"] = "sustained"
    longest_answer_ms: Annotated[float, Field(gt=0, strict=False)] | None = None
    changes: Annotated[list[Literal["fine-tunes", "experimental", "quantization", "merging"]], Field(max_length=4)] = []
    skill: Literal["none", "some", "good"] = "some"
    keeps_it_running: Literal["ourselves", "provider"] = "ourselves"
    provider_dollars_per_month: Annotated[float, Field(ge=0, strict=False)] = 0.0
    models_change_often: bool = False
    several_providers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One factor: what it speaks for and why; one that `decides` needs no other."""

    factor: str
    side: Side
    why: str
    decides: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the reasons come to."""

    side: Side
    is_forced: bool
    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {"side": self.side, "is_forced": self.is_forced, "reasons": [one.to_json() for one in self.reasons]}


def read_facts(untrusted_text: str) -> Facts:
    """Return the facts of a TOML file.

    Raises:
        UsageError: It is none; the first wrong key is named.
    """
    try:
        return Facts.model_validate(toml.read(untrusted_text.encode()))
    except ValidationError as error:  # first, for it is a ValueError too
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        why = "not a key that is known" if first["type"] == "extra_forbidden" else first["msg"]
        raise _unreadable(f"{key}: {why}", "facts are read strictly") from error
    except (ValueError, RecursionError) as error:
        raise _unreadable("the file is not TOML", str(error)[:200]) from error


def decide(facts: Facts) -> Decision:
    """Weigh the facts; a factor nobody said anything about speaks for either side."""
    reasons = (
        _sensitivity(facts), _law(facts), _scale(facts), _latency(facts), _customization(facts), _skill(facts),
        _uptime(facts), _network(facts),
    )  # fmt: skip
    if any(one.decides for one in reasons):
        return Decision(side="own", is_forced=True, reasons=reasons)
    ours = sum(one.side == "own" for one in reasons)
    theirs = sum(one.side == "provider" for one in reasons)
    side: Side = "own" if ours > theirs else "provider" if theirs > ours else "either"
    return Decision(side=side, is_forced=False, reasons=reasons)


def _sensitivity(facts: Facts) -> Reason:
    name = "data sensitivity"
    if facts.data in _DECIDING_DATA:
        return Reason(factor=name, side="own", why=f"{facts.data} data stays on machines of your own", decides=True)
    if facts.data == "proprietary" or facts.secrets:
        told = ", ".join(facts.secrets) or "proprietary data"
        return Reason(factor=name, side="own", why=f"{told} would leave the house")
    return Reason(factor=name, side="provider", why="what is asked is public anyway")


def _law(facts: Facts) -> Reason:
    if not facts.regulations:
        return Reason(factor="compliance", side="either", why="no law was named")
    laws = ", ".join(facts.regulations)
    return Reason(factor="compliance", side="own", why=f"{laws}: you prove where data was and who saw it", decides=True)


def _scale(facts: Facts) -> Reason:
    name = "cost at scale"
    if facts.provider_dollars_per_month > _LARGE_BILL:
        return Reason(factor=name, side="own", why=f"a bill above {_LARGE_BILL:,.0f} dollars a month pays for machines")
    if facts.use != "sustained":
        return Reason(factor=name, side="provider", why=f"{facts.use} use leaves machines idle")
    if facts.tokens_per_day > _MANY_TOKENS or facts.requests_per_second > _MANY_REQUESTS:
        return Reason(
            factor=name, side="own", why="more than a million tokens a day, or 100 requests a second, sustained"
        )
    if facts.tokens_per_day < _FEW_TOKENS:
        return Reason(factor=name, side="provider", why="fewer than 100,000 tokens a day never pay for a machine")
    return Reason(factor=name, side="either", why="reckon it: `sealift-bundler assess cost`")


def _latency(facts: Facts) -> Reason:
    name, longest = "latency", facts.longest_answer_ms
    if longest is None or longest >= _INTERNET_MS:
        return Reason(factor=name, side="either", why="the way through the internet is short enough")
    if longest < _SHORT_MS:
        return Reason(factor=name, side="own", why="under 50 ms at the 99th percentile needs a network of your own")
    return Reason(factor=name, side="own", why="the internet's 99th percentile is up to 500 ms")


def _customization(facts: Facts) -> Reason:
    if facts.changes:
        return Reason(factor="customization", side="own", why=f"{', '.join(facts.changes)}: the weights must be yours")
    if facts.models_change_often or facts.several_providers:
        return Reason(
            factor="customization", side="provider", why="each change of model here is a medium, gates and two people"
        )
    return Reason(factor="customization", side="either", why="models are used as they come")


def _skill(facts: Facts) -> Reason:
    sides: dict[str, Side] = {"none": "provider", "some": "either", "good": "own"}
    why = {
        "none": "somebody has to carry media, read alerts and answer at night",
        "some": "an appliance asks for two people, not for a team",
        "good": "people who can run it are there",
    }
    return Reason(factor="expertise", side=sides[facts.skill], why=why[facts.skill])


def _uptime(facts: Facts) -> Reason:
    if facts.keeps_it_running == "provider":
        return Reason(
            factor="uptime", side="provider", why="99.9 % and more by contract; here a second box is yours to buy"
        )
    return Reason(factor="uptime", side="either", why="two boxes and a drill each month are yours to keep")


def _network(facts: Facts) -> Reason:
    if facts.place in {"air-gapped", "edge"}:
        return Reason(factor="internet", side="own", why=f"{facts.place}: no provider can be reached", decides=True)
    if facts.place == "on-premises":
        return Reason(factor="internet", side="own", why="nothing may leave the premises", decides=True)
    return Reason(factor="internet", side="either", why="a provider can be reached")


def _unreadable(what: str, why: str) -> UsageError:
    return UsageError(what=what, why=why, fix="see docs/operator/deciding.md for each key")
