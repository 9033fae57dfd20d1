"""Which version answers a request while two are loaded: pure, so that every rule can be tried on any input.

Rules, the first that fits decides:
    ARM-1  A key that is pinned gets its version, or a clear refusal; one that is kept out gets production.
    ARM-2  A conversation stays with the version that it began on, while that version is loaded.
    ARM-3  A conversation that began before the canary began on what is production now, or was before the cut-over.
    ARM-4  Otherwise the caller's bucket decides, the same at each request: the canary's share gets the canary. None is
           added while it is on hold.
    ARM-5  Embeddings come from the key's pinned version, else from production's: vectors of two versions cannot be
           compared, so no canary has a share of them.
    ARM-6  A caller that asks for `auto` gets what the site's first rule that applies names, of all lines, behind ARM-1
           in the line that it leads to and before the others; the judge of a canary does not count it.

The line comes first (`appliance.gateway.routing.Lines`): all but ARM-6 is decided inside the one that a name leads to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from appliance.enginesections import RouterRule
from appliance.gateway import problems
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.routing import Lines, Route, Rule, Serving
from appliance.keys.provider import KeyProvider
from appliance.promote.canary import BUCKETS, is_in_share
from appliance.registry.router import Loaded, Query, decide
from appliance.stages import FIRST_LINE

_ARM_KEY: Final = "identity-hmac"
_ID_CHARACTERS: Final = 32


class Arm(StrEnum):
    """Which of the versions that are loaded, as records have it; in the test stage there is no other."""

    PRODUCTION = "production"
    CANARY = "canary"
    BEFORE = "before"
    TEST = "test"


class Assigned(StrEnum):
    """What decided; only what the share decided is compared by the judge."""

    ONLY = "only"
    SHARE = "share"
    PINNED = "pinned"
    KEPT_OUT = "kept-out"
    CONVERSATION = "conversation"
    ROUTED = "routed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, as far as arms are concerned.

    Attributes:
        key_id: Of the key.
        bucket: 0 to 9999, from key and user by a keyed hash; always the same.
        conversation: A keyed hash of how the conversation began; empty where there is none.
        goes_on: Whether answers came before this request.
    """

    key_id: str
    bucket: int
    conversation: str = ""
    goes_on: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The version that answers, and why.

    Attributes:
        notice: When a pinned key's version may be retired, as RFC 3339 text.
        rule: The site's rule that chose it for the model `auto`; empty where none did.
    """

    route: Route
    arm: Arm
    assigned: Assigned
    notice: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """What is known of a conversation: the version that answers it, and what decided when it began."""

    model_digest: str
    assigned: str


def caller_of(asked: Asked, *, key_id: str, user: str, keys: KeyProvider) -> Caller:
    """Return what arms need of a request.

    Raises:
        KeyMissingError: There is no key to hash with.
    """
    conversation, goes_on = "", False
    if asked.endpoint is Endpoint.CHAT:
        opening = []
        for message in asked.messages:
            opening.append(f"{message.role}\0{message.content or ''}")
            if message.role == "user":
                break
        goes_on = any(message.role == "assistant" for message in asked.messages)
        text = "\0".join(["conversation", key_id, user, *opening])
        conversation = keys.hmac(_ARM_KEY, text.encode(errors="surrogatepass")).hex()[:_ID_CHARACTERS]
    alone = caller_alone(key_id=key_id, user=user, keys=keys)
    return replace(alone, conversation=conversation, goes_on=goes_on)


def caller_alone(*, key_id: str, user: str, keys: KeyProvider) -> Caller:
    """Return what arms need of a request that belongs to no conversation.

    Raises:
        KeyMissingError: There is no key to hash with.
    """
    bucket = int.from_bytes(keys.hmac(_ARM_KEY, f"bucket\0{key_id}\0{user}".encode(errors="surrogatepass"))[:8])
    return Caller(key_id=key_id, bucket=bucket % BUCKETS)


def choose(serving: Serving, caller: Caller, began: Began | None) -> Chosen:
    """Return which version answers; `serving` has one in production.

    Args:
        serving: What is loaded, and the rules of keys.
        caller: Who asks.
        began: Where the conversation began, if that is known.

    Raises:
        Problem: The key is pinned to a version that is not loaded.
    """
    rule = serving.rules.get(caller.key_id)
    if rule is not None:
        return _by_rule(serving, rule)
    if serving.canary is None and serving.beside is None:
        return _chosen(serving, Arm.PRODUCTION, Assigned.ONLY)
    if caller.goes_on and began is not None and (kept := _arm_of(serving, began.model_digest)) is not None:
        was_shared = began.assigned == Assigned.SHARE and serving.canary is not None
        return _chosen(serving, kept, Assigned.SHARE if was_shared else Assigned.CONVERSATION)
    if caller.goes_on:
        return _chosen(serving, Arm.PRODUCTION if serving.beside is None else Arm.BEFORE, Assigned.CONVERSATION)
    canary = serving.canary
    if canary is None or canary.is_held:
        return _chosen(serving, Arm.PRODUCTION, Assigned.ONLY)
    wanted = is_in_share(caller.bucket, percent=canary.percent, offset=canary.offset)
    return _chosen(serving, Arm.CANARY if wanted else Arm.PRODUCTION, Assigned.SHARE)


def choose_routed(
    lines: Lines, rules: Sequence[RouterRule], query: Query, *, key_id: str
) -> tuple[Serving, Chosen] | None:
    """Return the version that the site's rules name, and what its line serves (ARM-6); None where no rule applies.

    A canary that is on hold gets nobody by a rule either.

    Raises:
        Problem: The key is pinned to a version of that line that is not loaded.
    """
    held = {one.canary.route.model_digest for one in lines.serving if one.canary is not None and one.canary.is_held}
    routes = [one for one in lines.routes if one.model_digest not in held]
    loaded = [Loaded(name=one.name, version=one.version, model_digest=one.model_digest) for one in routes]
    routed = decide(rules, query, loaded)
    if not routed.rule:
        return None
    route = next(one for one in routes if one.model_digest == routed.model_digest)
    serving = next(one for one in lines.serving if route in one.routes)
    rule = serving.rules.get(key_id)
    if rule is not None:
        return serving, _by_rule(serving, rule)
    arm = Arm.TEST if serving.is_test else _arm_of(serving, route.model_digest) or Arm.PRODUCTION
    return serving, Chosen(route=route, arm=arm, assigned=Assigned.ROUTED, rule=routed.rule)


def note(problem: problems.Problem, serving: Serving, chosen: Chosen) -> None:
    """Note what was chosen before a request could not be answered; the version too where it is of a further line.

    A refusal that names no version counts as the first line's (`appliance.promote.belonging`); one by a gateway that
    stops counts as nobody's.
    """
    if problem.code == problems.STOPPING:
        return
    problem.arm, problem.assigned = chosen.arm.value, chosen.assigned.value
    problem.model_digest = "" if serving.line == FIRST_LINE else chosen.route.model_digest


def choose_for_vectors(serving: Serving, caller: Caller) -> Chosen:
    """Return which version makes embeddings (ARM-5).

    Raises:
        Problem: The key is pinned to a version that is not loaded.
    """
    rule = serving.rules.get(caller.key_id)
    return _chosen(serving, Arm.PRODUCTION, Assigned.ONLY) if rule is None else _by_rule(serving, rule)


def _by_rule(serving: Serving, rule: Rule) -> Chosen:
    if rule.is_kept_out:
        return _chosen(serving, Arm.PRODUCTION, Assigned.KEPT_OUT)
    arm = _arm_of(serving, rule.model_digest)
    if arm is None:
        raise problems.pinned_version_gone()
    return _chosen(serving, arm, Assigned.PINNED, notice=serving.leaves_at(rule.model_digest))


def _chosen(serving: Serving, arm: Arm, assigned: Assigned, *, notice: str = "") -> Chosen:
    named = Arm.TEST if serving.is_test else arm
    return Chosen(route=_route_of(serving, arm), arm=named, assigned=assigned, notice=notice)


def _arm_of(serving: Serving, digest: str) -> Arm | None:
    for arm, found in (
        (Arm.PRODUCTION, serving.production),
        (Arm.CANARY, serving.canary.route if serving.canary else None),
        (Arm.BEFORE, serving.beside.route if serving.beside else None),
    ):
        if found is not None and digest and found.model_digest == digest:
            return arm
    return None


def _route_of(serving: Serving, arm: Arm) -> Route:
    if arm is Arm.CANARY and serving.canary is not None:
        return serving.canary.route
    if arm is Arm.BEFORE and serving.beside is not None:
        return serving.beside.route
    return serving.production
