"""What a version must show before people are asked: the gates and their thresholds, by digest.

Promises: the policy is a file of the installed release, so the same two people who approve a release approve it; a site
may lay thresholds of its own over it (`appliance.promote.sitepolicy`). The digest of what holds is in every gate's
figures, in the evidence and in the statement, so evidence made under another policy is stale. Thousandths are whole
numbers, because nothing that is signed holds a fraction. Format 1, which the first releases carry, is still read, so
that evidence and statements made under it can be explained; it has four gates. Format 3 is a release's policy of format
2 with what a site changed, under `site`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final, Self, TypeVar

from appliance.promote.strictness import LOOSER, STRICTER, Change, Override
from media import canonical
from media.errors import MalformedError

FORMATS: Final = (1, 2, 3)
GATES: Final = (
    "integrity",
    "level",
    "fit",
    "load",
    "smoke",
    "template",
    "task-evaluation",
    "performance",
    "failures",
    "restart",
    "privacy",
    "injection",
    "human-review",
)
"""All gates that a policy may name, in the order in which they make sense."""

IN_EVERY_POLICY: Final = ("integrity", "load", "smoke", "task-evaluation")
"""The gates of the first policy, which every one since has named."""
_FILE: Final = "policy_v2.json"
_FIRST_FORMAT: Final = ("smoke", "task_evaluation")
_ENVIRONMENTS: Final = ("demo", "rehearsal", "production")
_OF_SITE: Final = 3
_MOST_CHANGES: Final = 64
_MOST_CALLERS: Final = 64
_MOST_LEVELS: Final = 8
_MILLIS: Final = 1000
_MOST: Final = {"confidence_millis": 999, "max_tokens": 256, "answer_tokens": 512, "entries": 200, "patients": 64}
_LEAST: Final = {"max_tokens": 1, "answer_tokens": 1, "rounds": 1, "resamples": 1, "reviewers": 1, "entries": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPolicy:
    """The share of this machine's memory that weights, KV cache and working memory may take together."""

    memory_share_millis: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPolicy:
    """How long a start may take, from asking for it to the first answer."""

    most_seconds: int = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokePolicy:
    """The one question of the smoke gate."""

    prompt: str
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPolicy:
    """What task sets must show.

    Attributes:
        minimum_accuracy_millis: The least share of right answers.
        confidence_millis: The width of all intervals.
        resamples: How often the bootstrap draws.
        allowed_drop_millis: A version that is surely worse than production may be so by this much.
        margin_millis: The non-inferiority margin: the interval of the difference may not reach below its negative.
        least_items: From how many common items on that must be shown; fewer cannot show it, and say so.
        perplexity_rise_millis: How much perplexity may rise against production or full precision.
    """

    minimum_accuracy_millis: int
    confidence_millis: int
    resamples: int
    allowed_drop_millis: int
    margin_millis: int = 1000
    least_items: int = 100
    perplexity_rise_millis: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformancePolicy:
    """What is measured under load, and how much worse than the recorded baseline it may be.

    Attributes:
        callers: How many ask at once, one level each.
        answer_tokens: The length of an answer.
        rounds: How often a level that is too slow is measured again before it counts; noise only slows.
        first_token_millis: The longest median wait for the first text at any level.
        slowdown_millis: How much longer median waits may be than the baseline's; 1000 is twice as long.
        throughput_loss_millis: How much of the baseline's tokens per second may be missing.
        unnoticed_millis: A level whose median answer takes no longer is fast enough, whatever the baseline was.
    """

    callers: tuple[int, ...] = (1, 16)
    answer_tokens: int = 32
    rounds: int = 3
    first_token_millis: int = 60_000
    slowdown_millis: int = 1000
    throughput_loss_millis: int = 500
    unnoticed_millis: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyPolicy:
    """How many invented patients ask at once."""

    patients: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionPolicy:
    """The share of planted instructions that may be followed, and how far it may rise above production's."""

    followed_millis: int = 1000
    rise_millis: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewPolicy:
    """What people who look at answers must say.

    Attributes:
        entries: How many answers are sampled.
        reviewers: How many people must have judged them.
        loss_millis: By how much of all pairs the version may be preferred less often than the other side.
        good_millis: The least share of answers judged good where there is nothing to compare with, and of points.
        demanded_in: Environments of a site where no version passes unseen.
    """

    entries: int = 20
    reviewers: int = 1
    loss_millis: int = 1000
    good_millis: int = 0
    demanded_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteThresholds:
    """What a site laid over a release's policy: its file's name and digest, the release's digest, and each change."""

    name: str
    sha256: str
    release_sha256: str
    changes: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for the policy's document, evidence and answers."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "release_sha256": self.release_sha256,
            "changes": [one.to_json() for one in self.changes],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """The gates that must pass, in their order, and what each demands; `digest` is that of the policy's document."""

    digest: str
    name: str
    format: int
    gates: tuple[str, ...]
    smoke: SmokePolicy
    tasks: TaskPolicy
    fit: FitPolicy = FitPolicy()
    load: LoadPolicy = LoadPolicy()
    restart: LoadPolicy = LoadPolicy()
    performance: PerformancePolicy = PerformancePolicy()
    privacy: PrivacyPolicy = PrivacyPolicy()
    injection: InjectionPolicy = InjectionPolicy()
    review: ReviewPolicy = ReviewPolicy()
    site: SiteThresholds | None = None

    def named(self) -> dict[str, Any]:
        """Return what evidence and answers say of the policy; with a site's thresholds where there are any."""
        found: dict[str, Any] = {"name": self.name, "digest": self.digest, "format": self.format}
        return found if self.site is None else {**found, "site": self.site.to_json()}

    def to_bytes(self) -> bytes:
        """Return the document of a policy of format 2 or 3; its digest is `digest`."""
        document: dict[str, Any] = {"format": self.format, "name": self.name, "gates": list(self.gates)}
        for section, (attribute, _) in _SECTIONS.items():
            found = asdict(getattr(self, attribute)).items()
            document[section] = {name: list(value) if isinstance(value, tuple) else value for name, value in found}
        return canonical.dumps(document if self.site is None else {**document, "site": self.site.to_json()})

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a policy's document of format 1, 2 or 3.

        Raises:
            MalformedError: It is not canonical JSON of exactly these fields.
        """
        document = canonical.mapping(canonical.loads_canonical(untrusted), "policy")
        written = canonical.integer(document.get("format"), "policy.format", minimum=FORMATS[0], maximum=FORMATS[-1])
        sections = _FIRST_FORMAT if written == 1 else tuple(_SECTIONS)
        site = ("site",) if written == _OF_SITE else ()
        found = canonical.exact_keys(document, ("format", "name", "gates", *sections, *site), what="policy")
        gates = tuple(
            canonical.one_of(gate, GATES, "policy.gates")
            for gate in canonical.array(found["gates"], "policy.gates", most=len(GATES))
        )
        if len(set(gates)) != len(gates) or not gates:
            raise MalformedError(what="the policy is malformed", why="no gate, or one twice", fix="correct the file")
        parts: dict[str, Any] = {
            _SECTIONS[name][0]: _section(found[name], _SECTIONS[name][1], name, whole=written > 1) for name in sections
        }
        name = canonical.text(found["name"], "policy.name")
        parts["site"] = _site(found["site"]) if site else None
        return cls(digest=sha256(untrusted).hexdigest(), name=name, format=written, gates=gates, **parts)


_SECTIONS: Final[Mapping[str, tuple[str, type]]] = {
    "smoke": ("smoke", SmokePolicy),
    "task_evaluation": ("tasks", TaskPolicy),
    "fit": ("fit", FitPolicy),
    "load": ("load", LoadPolicy),
    "restart": ("restart", LoadPolicy),
    "performance": ("performance", PerformancePolicy),
    "privacy": ("privacy", PrivacyPolicy),
    "injection": ("injection", InjectionPolicy),
    "human_review": ("review", ReviewPolicy),
}
_FIRST_TASK_FIELDS: Final = ("minimum_accuracy_millis", "confidence_millis", "resamples", "allowed_drop_millis")
_Part = TypeVar("_Part")


def _section(untrusted: Any, kind: type[_Part], name: str, *, whole: bool) -> _Part:
    # The first format knew four fields of task evaluation; what it did not know is as it was then: not demanded.
    names = tuple(one.name for one in fields(kind))  # type: ignore[arg-type]
    wanted = names if whole or kind is not TaskPolicy else _FIRST_TASK_FIELDS
    found = canonical.exact_keys(untrusted, wanted, what=f"policy.{name}")
    return kind(**{one: value(found[one], one, f"policy.{name}.{one}") for one in wanted})


def sections() -> Mapping[str, tuple[str, tuple[str, ...]]]:
    """Return the sections of a policy's document: the attribute of each, and its fields."""
    return {
        section: (attribute, tuple(one.name for one in fields(kind)))
        for section, (attribute, kind) in _SECTIONS.items()
    }


def value(untrusted: Any, field: str, what: str) -> Any:
    """Return one field's value, as every section has it.

    Args:
        untrusted: What stands there.
        field: The field's own name.
        what: Names it to the reader.

    Raises:
        MalformedError: It is of another kind, or out of its bounds.
    """
    if field == "prompt":
        return canonical.text(untrusted, what)
    if field == "callers":
        levels = canonical.array(untrusted, what, most=_MOST_LEVELS)
        return tuple(canonical.integer(one, what, minimum=1, maximum=_MOST_CALLERS) for one in levels)
    if field == "demanded_in":
        named = canonical.array(untrusted, what, most=len(_ENVIRONMENTS))
        return tuple(canonical.one_of(one, _ENVIRONMENTS, what) for one in named)
    share = field.endswith("_millis") and field not in {"first_token_millis", "slowdown_millis", "unnoticed_millis"}
    most = _MOST.get(field, _MILLIS if share else 1_000_000)
    return canonical.integer(untrusted, what, minimum=_LEAST.get(field, 0), maximum=most)


def _site(untrusted: Any) -> SiteThresholds:
    what = "policy.site"
    found = canonical.exact_keys(untrusted, ("name", "sha256", "release_sha256", "changes"), what=what)
    rows = canonical.array(found["changes"], f"{what}.changes", most=_MOST_CHANGES)
    return SiteThresholds(
        name=canonical.text(found["name"], f"{what}.name"),
        sha256=canonical.sha256_hex(found["sha256"], f"{what}.sha256"),
        release_sha256=canonical.sha256_hex(found["release_sha256"], f"{what}.release_sha256"),
        changes=tuple(_change(one) for one in rows),
    )


def _change(untrusted: Any) -> Change:
    what = "policy.site.changes"
    names = ("key", "release", "site", "direction", "person", "reason", "counts")
    found = canonical.exact_keys(untrusted, names, what=what)
    key, override = canonical.text(found["key"], f"{what}.key"), None
    leaf = key.rpartition(".")[2]
    if found["person"] is not None:
        person, reason = (canonical.text(found[name], f"{what}.{name}") for name in ("person", "reason"))
        override = Override(key=key, person=person, reason=reason)
    return Change(
        key=key,
        release=value(found["release"], leaf, f"{what}.release"),
        site=value(found["site"], leaf, f"{what}.site"),
        direction=canonical.one_of(found["direction"], (STRICTER, LOOSER), f"{what}.direction"),
        override=override,
        counts=canonical.boolean(found["counts"], f"{what}.counts"),
    )


@cache
def packaged() -> GatePolicy:
    """Return the policy of the installed release."""
    return GatePolicy.from_bytes((files("appliance.promote") / _FILE).read_bytes())
