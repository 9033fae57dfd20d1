"""Answers with contexts of their own stand beside each other, whoever came and left, and nothing that rests is lost."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.serve.context import Context
from appliance.serve.curve import Curve
from appliance.serve.engine import Generation
from appliance.serve.jobs import Job, jobs_of
from appliance.serve.neighbours import beside, bridges, groups
from appliance.serve.places import Places
from tests.support.decoder import EchoDecoder

PLACES = st.sets(st.integers(0, 20), min_size=1, max_size=12)
STEPS = {1: 40, 2: 55, 4: 70, 8: 100, 16: 160, 32: 280}


@given(PLACES)
def test_groups_are_what_follows_one_another(taken: set[int]) -> None:
    found = groups(taken)

    assert {one for group in found for one in group} == taken
    assert all(left.stop < right.start for left, right in pairwise(found))


@given(PLACES, PLACES, PLACES)
def test_no_other_place_would_leave_fewer_groups(taken: set[int], free: set[int], resting: set[int]) -> None:
    free, resting = free - taken, resting - free - taken
    if not free | resting:
        return

    found = beside(taken, free, resting=resting)

    fewest = min(len(groups({*taken, one})) for one in free | resting)
    assert len(groups({*taken, found})) == fewest
    if found in resting:  # what is free is taken before what is as good
        span = max({*taken, found}) - min({*taken, found})
        as_good = [one for one in free if len(groups({*taken, one})) == fewest]
        assert all(max({*taken, one}) - min({*taken, one}) > span for one in as_good)


@given(PLACES, PLACES)
def test_what_is_computed_for_nothing_makes_a_step_shorter(taken: set[int], idle: set[int]) -> None:
    curve = Curve(threads=1, micros=STEPS)

    found = bridges(taken, idle - taken, curve.seconds)

    assert set(found) <= idle - taken
    alone = sum(curve.seconds(len(group)) for group in groups(taken))
    joined = sum(curve.seconds(len(group)) for group in groups([*taken, *found]))
    assert joined < alone if found else joined == alone


def test_a_gap_that_costs_more_than_a_group_stays() -> None:
    curve = Curve(threads=1, micros=STEPS)

    assert bridges({0, 1, 3, 4}, {2}, curve.seconds) == [2]
    assert bridges({0, 1, 3, 4}, set(), curve.seconds) == []
    assert bridges({0, 16}, set(range(1, 16)), curve.seconds) == []


class Box:
    """Places of a decoder, and who is answered."""

    def __init__(self, **decoder: Any) -> None:
        self.decoder = EchoDecoder(context_tokens=1024, sequences=8, batch_tokens=64, is_apart=True, **decoder)
        self.places = Places(self.decoder, Context(self.decoder))
        self.active: list[Job] = []
        self.found = 0
        """Tokens that the last one need not read."""

    def begin(self, text: str, *, salt: str = "one") -> Job:
        """Let somebody in whose prompt is all read."""
        asked = Generation(tokens=[ord(letter) for letter in text], max_tokens=1, salt=salt)
        (job,) = jobs_of(asked, len(self.active), on_cancel=lambda: None)[1]
        self.active.append(job)
        self.places.place(job, self.active, room=1024)
        assert job.sequence is not None
        self.found = job.held
        held = self.decoder.prompts.setdefault(job.sequence, [])
        assert held == job.tokens[: job.held]
        held.extend(job.tokens[job.held :])
        job.held = len(job.tokens)
        return job

    def end(self, job: Job) -> None:
        self.active.remove(job)
        self.places.give_back(job, keeps=True)

    def taken(self) -> list[range]:
        return groups(job.sequence for job in self.active if job.sequence is not None)


def test_whoever_comes_stands_beside_the_others_and_what_rested_there_is_found_elsewhere() -> None:
    box = Box()
    jobs = [box.begin(letter * 20, salt=letter) for letter in "abcdef"]
    for job in jobs[1:]:
        box.end(job)  # a is answered on; b to f rest beside it

    box.begin("x" * 20, salt="x")

    assert len(box.taken()) == 1
    for letter in "bcdef":
        box.begin(letter * 20 + "more", salt=letter)
        assert box.found == 20
        assert len(box.taken()) == 1


def test_of_what_is_old_goes_what_stands_beside() -> None:
    box = Box()
    jobs = [box.begin(letter * 20, salt=letter) for letter in "abcdefgh"]
    for at in (5, 0, 1, 2, 3, 4, 6):  # the last one, in place 7, is answered on; f is the oldest, then a, b, c, ...
        box.end(jobs[at])

    new = box.begin("x" * 20, salt="x")

    assert (new.sequence, box.decoder.copied) == (6, [(6, 5, 20)])  # f's place is free now, and g rests there


def test_a_model_that_gives_no_part_takes_the_free_place_that_is_nearest() -> None:
    box = Box(is_whole=True)
    jobs = [box.begin(letter * 20, salt=letter) for letter in "abcd"]
    for job in jobs[:3]:
        box.end(job)

    new = box.begin("x" * 20, salt="x")

    assert new.sequence == 4
    assert len(box.taken()) == 1


@pytest.mark.parametrize("gap", [1, 2])
def test_places_between_answers_are_computed_for_nothing_and_left_as_they_were(gap: int) -> None:
    box = Box()
    jobs = [box.begin(letter * 20, salt=letter) for letter in "abcdef"]
    for job in jobs[2 : 2 + gap]:
        box.end(job)
    before = {sequence: list(held) for sequence, held in box.decoder.prompts.items()}

    rows = box.places.between(_sequences(box), Curve(threads=1, micros=STEPS), 65)

    assert [(row.sequence, row.position, row.wants_logits) for row in rows] == [
        (2 + at, 20, False) for at in range(gap)
    ]
    box.decoder.decode(rows)
    box.places.empty_between()
    assert box.decoder.prompts == before
    assert box.places.between(_sequences(box), None, 65) == []


def test_what_no_part_can_be_taken_of_is_lost_once() -> None:
    box = Box(is_whole=True)
    jobs = [box.begin(letter * 20, salt=letter) for letter in "abcdef"]
    box.end(jobs[2])
    curve = Curve(threads=1, micros=STEPS)

    box.decoder.decode(box.places.between(_sequences(box), curve, 65))
    box.places.empty_between()

    assert box.places.resting_tokens == 0
    box.end(jobs[3])
    assert box.places.between(_sequences(box), curve, 65) == []  # 2 is free, and 3 rests
    assert box.places.resting_tokens == 20


def _sequences(box: Box) -> Sequence[int]:
    return [job.sequence for job in box.active if job.sequence is not None]
