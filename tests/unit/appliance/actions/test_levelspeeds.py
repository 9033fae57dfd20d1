"""What `sealift models variants` tells of the levels of a model: measured steps, and the level that gives most."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.actions.levelspeeds import Fastest, Level, fastest, level_speeds
from appliance.audit.memory import MemoryLedger
from appliance.errors import ProofError
from appliance.places import Places
from appliance.registry import evidence
from appliance.serve.curve import Curve
from appliance.state import projection
from tests.support.floor import Floor, open_floor
from tests.support.ledger import bodies
from tests.support.promotion import digest
from tests.support.scripted_http import Reply
from tests.support.versions import engine_replies

Q4_1 = {1: 4900, 2: 10600, 4: 13000, 8: 25200, 16: 42500}
Q8_0 = {1: 5000, 2: 12600, 4: 15000, 8: 22000, 16: 27500}


class Box:
    """A ledger, and evidence beside it."""

    def __init__(self, root: Path) -> None:
        self.places = Places(root=root, run=root / "run")
        self.ledger = MemoryLedger()

    def version(
        self,
        which: str,
        quantization: str,
        micros: Mapping[int, int],
        *,
        threads: int = 1,
        machine: str = "",
        kv_unified: bool = True,
        **form: object,
    ) -> str:
        """Register a version whose gate `load` kept this curve; return the evidence's digest."""
        own = bodies(digest(which))
        runtime = {"llama_cpp": {"kv_unified": kv_unified}}
        descriptor = {"quantization": quantization, "files": [], "runtime": runtime}
        named = {"name": f"tiny-{quantization.lower()}", "descriptor": descriptor}
        self.ledger.append("model.registered", {**own["model.registered"], **named})
        curve = {**Curve(threads=threads, micros=micros, machine=machine).to_json(), **form} if micros else None
        figures = {"load_millis": 1, **({"step_curve": curve} if curve else {})}
        gates = [{"gate": "integrity", "figures": {}}, {"gate": "load", "figures": figures}]
        kept = evidence.store(self.places, {"model_digest": digest(which), "gates": gates})
        # The ledger has single figures only.
        judged = {"gate": "load", "figures": {"load_millis": 1}, "evidence_digest": kept}
        self.ledger.append("gate.result", {**own["gate.result"], **judged})
        return kept

    def levels(self, state: Engine) -> tuple[Level, ...]:
        """Return what is told of the one model."""
        projection.catch_up(state, self.ledger)
        return level_speeds(self.places, state)["tiny"]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def named(found: Fastest | None) -> tuple[str, int] | None:
    return None if found is None else (found.level.variant.quantization, found.answers)


def test_the_level_that_gives_most_under_load_is_measured_and_may_be_the_larger_one(box: Box, state: Engine) -> None:
    box.version("A", "Q4_1", Q4_1)
    box.version("B", "Q8_0", Q8_0)

    found = box.levels(state)

    assert [(one.variant.quantization, one.speeds[1], one.speeds[16]) for one in found] == [
        ("Q8_0", 200, 582),
        ("Q4_1", 204, 376),
    ]
    assert named(fastest(found)) == ("Q8_0", 16)
    assert found[0].to_json()["speeds"][0] == {"answers": 1, "tokens_per_second": 200}


def test_two_answers_take_turns_where_a_batch_is_slower_as_the_scheduler_lets_them(box: Box, state: Engine) -> None:
    box.version("A", "Q8_0", {1: 5000, 2: 20000, 4: 60000})

    (one,) = box.levels(state)

    assert one.speeds == {1: 200, 4: 200}


def test_a_batch_is_filled_up_only_where_answers_share_a_context(box: Box, state: Engine) -> None:
    micros = {1: 5000, 4: 15000, 8: 10000}
    box.version("A", "Q8_0", micros)
    box.version("B", "Q4_1", micros, kv_unified=False)

    shared, apart = box.levels(state)

    assert (shared.speeds[4], apart.speeds[4]) == (400, 267)


def test_what_was_measured_otherwise_is_not_compared(box: Box, state: Engine) -> None:
    box.version("A", "Q4_1", Q4_1)
    box.version("B", "Q8_0", Q8_0, threads=2)
    box.version("E", "Q6_K", Q8_0, machine="ab" * 32)
    box.version("C", "F16", {})
    box.version("D", "Q5_1", Q4_1, format=99)

    found = box.levels(state)

    assert {one.variant.quantization for one in found if one.speeds} == {"Q4_1", "Q8_0", "Q6_K"}
    assert fastest(found) is None


def test_levels_are_compared_with_as_many_answers_as_both_were_measured_with(box: Box, state: Engine) -> None:
    box.version("A", "Q4_1", Q4_1)
    box.version("B", "Q8_0", {rows: micros for rows, micros in Q8_0.items() if rows <= 8})

    assert named(fastest(box.levels(state))) == ("Q8_0", 8)


def test_a_level_too_slow_for_more_than_one_answer_is_compared_by_that_one_and_it_is_said(
    box: Box, state: Engine
) -> None:
    reading = [{"rows": 1, "micros": 314_000}, {"rows": 32, "micros": 748_000}]  # no figure of answers at once
    box.version("A", "Q4_1", {1: 250_000, 2: 300_000, 4: 400_000})
    box.version("B", "Q8_0", {1: 314_000}, format=2, prompts=reading)

    slow, other = box.levels(state)
    best = fastest([slow, other])

    assert (slow.speeds, other.speeds) == ({1: 3}, {1: 4, 4: 10})
    assert named(best) == ("Q4_1", 1)
    assert best is not None
    assert best.told().startswith("Q4_1 gives most with one answer alone, ")
    assert best.told().endswith("of no two levels it measured more at once")
    alike = fastest([other, replace(other, variant=slow.variant)])
    assert alike is not None
    assert alike.told().endswith("gives most with 4 answers at once, as validation measured it")


def test_what_validation_kept_is_what_is_told(floor: Floor) -> None:
    descriptor = floor.bring()
    status = engine_replies(descriptor, stage="test")["/sealift/v1/status"]
    assert isinstance(status, Reply)
    told = Curve(threads=3, micros={1: 5000, 4: 8000}).to_json()
    floor.supervisor.know(
        descriptor, replies={"/sealift/v1/status": Reply(body={**dict(status.body or {}), "step_curve": told})}
    )
    floor.validate(descriptor, only="load")

    (one,) = level_speeds(floor.site.config.at, floor.state)["tiny"]

    assert (one.threads, one.speeds) == (3, {1: 200, 4: 500})


def test_evidence_is_read_by_who_may_and_what_is_gone_was_not_measured(box: Box, state: Engine) -> None:
    kept = box.version("A", "Q4_1", Q4_1)
    lying = evidence.folder(box.places)
    content = evidence.content(box.places, kept)
    (lying / f"{kept}.json").unlink()
    (gone,) = box.levels(state)
    asked: list[tuple[str, str]] = []

    class Jobs:
        def text(self, what: str, digest: str) -> bytes:
            asked.append((what, digest))
            if len(asked) > 1:
                raise ProofError(what="the evidence does not verify", why="", fix="")
            return content

    (read,) = level_speeds(box.places, state, proofs=Jobs())["tiny"]
    (refused,) = level_speeds(box.places, state, proofs=Jobs())["tiny"]

    assert (gone.speeds, refused.speeds) == ({}, {})
    assert read.speeds[1] == 204
    assert asked[0] == ("evidence", kept)
