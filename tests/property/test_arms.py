"""Which version answers while two are loaded: the same one for a caller and a conversation, whoever asks when."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.arms import Arm, Assigned, Began, Caller, Chosen, choose
from appliance.gateway.problems import Problem
from appliance.gateway.routing import Beside, Canary, Route, Rule, Serving
from appliance.promote.canary import BUCKETS, is_in_share, offset_of

OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64


def route(digest: str) -> Route:
    return Route(name=digest[:1], version="1", model_digest=digest, serial=1, release="r", socket=Path("/x"), created=0)


def canary(percent: int, offset: int, *, is_held: bool = False) -> Serving:
    beside = Canary(route=route(NEW), percent=percent, offset=offset, is_held=is_held)
    return Serving(production=route(OLD), canary=beside, leaving=OLD, leaves="2026-11-24T08:00:00Z")


PERCENTS = st.integers(1, 50)
OFFSETS = st.integers(0, 2**40).map(offset_of)
CALLERS = st.builds(
    Caller, key_id=st.sampled_from(("k1", "k2")), bucket=st.integers(0, BUCKETS - 1), conversation=st.text(max_size=4)
)
CUT_OVER = Serving(production=route(NEW), beside=Beside(route=route(OLD)), leaving=OLD, leaves="2026-11-24T08:00:00Z")


def went_on(caller: Caller) -> Caller:
    return Caller(key_id=caller.key_id, bucket=caller.bucket, conversation=caller.conversation, goes_on=True)


def began(chosen: Chosen) -> Began:
    return Began(model_digest=chosen.route.model_digest, assigned=chosen.assigned.value)


@given(PERCENTS, OFFSETS)
def test_a_share_is_exactly_as_large_as_it_says(percent: int, offset: int) -> None:
    share = sum(is_in_share(bucket, percent=percent, offset=offset) for bucket in range(BUCKETS))

    assert share == percent * BUCKETS // 100


@given(PERCENTS, OFFSETS, CALLERS)
def test_a_caller_has_one_version_as_long_as_the_canary_runs(percent: int, offset: int, caller: Caller) -> None:
    serving = canary(percent, offset)
    first = choose(serving, caller, None)

    assert first.assigned is Assigned.SHARE
    assert choose(serving, caller, None) == first
    assert choose(serving, went_on(caller), began(first)) == first


@given(PERCENTS, OFFSETS, CALLERS, st.booleans())
def test_a_conversation_stays_on_hold_and_through_the_cut_over(
    percent: int,
    offset: int,
    caller: Caller,
    held_first: bool,  # noqa: FBT001
) -> None:
    serving = canary(percent, offset)
    first = choose(serving, caller, None)

    for later in (canary(percent, offset, is_held=held_first), canary(percent, offset, is_held=True), CUT_OVER):
        assert choose(later, went_on(caller), began(first)).route == first.route


@given(PERCENTS, OFFSETS, CALLERS)
def test_what_began_before_the_canary_is_never_moved_and_never_compared(
    percent: int, offset: int, caller: Caller
) -> None:
    going, done = (choose(serving, went_on(caller), None) for serving in (canary(percent, offset), CUT_OVER))

    assert (going.route.model_digest, going.assigned) == (OLD, Assigned.CONVERSATION)
    assert (done.route.model_digest, done.arm) == (OLD, Arm.BEFORE)
    again = choose(canary(percent, offset), went_on(caller), began(going))
    assert (again.route, again.assigned) == (going.route, Assigned.CONVERSATION)


@given(PERCENTS, OFFSETS, CALLERS, st.sampled_from((OLD, NEW)), st.booleans())
def test_a_pinned_key_gets_its_version_and_is_told_when_it_leaves(
    percent: int,
    offset: int,
    caller: Caller,
    pinned: str,
    goes_on: bool,  # noqa: FBT001
) -> None:
    for serving in (canary(percent, offset), CUT_OVER):
        ruled = Serving(
            production=serving.production,
            canary=serving.canary,
            beside=serving.beside,
            leaving=serving.leaving,
            leaves=serving.leaves,
            rules={"k1": Rule(model_digest=pinned), "k2": Rule()},
        )
        chosen = choose(ruled, went_on(caller) if goes_on else caller, None)
        if caller.key_id == "k2":
            assert (chosen.arm, chosen.assigned) == (Arm.PRODUCTION, Assigned.KEPT_OUT)
        else:
            assert (chosen.route.model_digest, chosen.assigned) == (pinned, Assigned.PINNED)
            assert bool(chosen.notice) is (pinned == OLD)


@given(CALLERS)
def test_a_pinned_key_is_refused_rather_than_answered_by_another_version(caller: Caller) -> None:
    serving = Serving(production=route(NEW), rules={"k1": Rule(model_digest=OTHER), "k2": Rule(model_digest=OLD)})

    with pytest.raises(Problem, match="pinned_version_gone"):
        choose(serving, caller, None)


@given(
    CALLERS, st.none() | st.builds(Began, model_digest=st.sampled_from((OLD, NEW, OTHER)), assigned=st.just("share"))
)
def test_with_one_version_loaded_it_answers(caller: Caller, earlier: Began | None) -> None:
    for one in (caller, went_on(caller)):
        assert choose(Serving(production=route(NEW)), one, earlier).route.model_digest == NEW


@given(PERCENTS, OFFSETS, CALLERS)
def test_no_caller_is_added_while_the_canary_is_on_hold(percent: int, offset: int, caller: Caller) -> None:
    chosen = choose(canary(percent, offset, is_held=True), caller, None)

    assert (chosen.arm, chosen.assigned) == (Arm.PRODUCTION, Assigned.ONLY)
