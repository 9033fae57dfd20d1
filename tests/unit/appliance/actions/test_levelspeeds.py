"""What `sealift models variants` tells of the levels of a model: measured steps, and the level that gives most."""

from collections.abc import Mapping

from sqlalchemy import Engine

from appliance.actions.levelspeeds import Fastest, Level, fastest, level_speeds
from appliance.audit.memory import MemoryLedger
from appliance.serve.curve import Curve
from appliance.state import projection
from tests.support.ledger import bodies
from tests.support.promotion import digest

Q4_1 = {1: 4900, 2: 10600, 4: 13000, 8: 25200, 16: 42500}
Q8_0 = {1: 5000, 2: 12600, 4: 15000, 8: 22000, 16: 27500}


def version(
    ledger: MemoryLedger,
    which: str,
    quantization: str,
    micros: Mapping[int, int],
    *,
    threads: int = 1,
    kv_unified: bool = True,
    **form: object,
) -> None:
    own = bodies(digest(which))
    runtime = {"llama_cpp": {"kv_unified": kv_unified}}
    descriptor = {"quantization": quantization, "files": [], "runtime": runtime}
    named = {"name": f"tiny-{quantization.lower()}", "descriptor": descriptor}
    ledger.append("model.registered", {**own["model.registered"], **named})
    if micros:
        figures = {"load_millis": 1, "step_curve": {**Curve(threads=threads, micros=micros).to_json(), **form}}
        ledger.append("gate.result", {**own["gate.result"], "gate": "load", "figures": figures})


def levels(ledger: MemoryLedger, state: Engine) -> tuple[Level, ...]:
    projection.catch_up(state, ledger)
    return level_speeds(state)["tiny"]


def named(found: Fastest | None) -> tuple[str, int] | None:
    return None if found is None else (found.level.variant.quantization, found.answers)


def test_the_level_that_gives_most_under_load_is_measured_and_may_be_the_larger_one(state: Engine) -> None:
    ledger = MemoryLedger()
    version(ledger, "A", "Q4_1", Q4_1)
    version(ledger, "B", "Q8_0", Q8_0)

    found = levels(ledger, state)

    assert [(one.variant.quantization, one.speeds[1], one.speeds[16]) for one in found] == [
        ("Q8_0", 200, 582),
        ("Q4_1", 204, 376),
    ]
    assert named(fastest(found)) == ("Q8_0", 16)
    assert found[0].to_json()["speeds"][0] == {"answers": 1, "tokens_per_second": 200}


def test_two_answers_take_turns_where_a_batch_is_slower_as_the_scheduler_lets_them(state: Engine) -> None:
    ledger = MemoryLedger()
    version(ledger, "A", "Q8_0", {1: 5000, 2: 20000, 4: 60000})

    (one,) = levels(ledger, state)

    assert one.speeds == {1: 200, 4: 200}


def test_a_batch_is_filled_up_only_where_answers_share_a_context(state: Engine) -> None:
    ledger, micros = MemoryLedger(), {1: 5000, 4: 15000, 8: 10000}
    version(ledger, "A", "Q8_0", micros)
    version(ledger, "B", "Q4_1", micros, kv_unified=False)

    shared, apart = levels(ledger, state)

    assert (shared.speeds[4], apart.speeds[4]) == (400, 267)


def test_what_was_measured_otherwise_is_not_compared(state: Engine) -> None:
    ledger = MemoryLedger()
    version(ledger, "A", "Q4_1", Q4_1)
    version(ledger, "B", "Q8_0", Q8_0, threads=2)
    version(ledger, "C", "F16", {})
    version(ledger, "D", "Q5_1", Q4_1, format=99)

    found = levels(ledger, state)

    assert {one.variant.quantization for one in found if one.speeds} == {"Q4_1", "Q8_0"}
    assert fastest(found) is None


def test_levels_are_compared_with_as_many_answers_as_both_were_measured_with(state: Engine) -> None:
    ledger = MemoryLedger()
    version(ledger, "A", "Q4_1", Q4_1)
    version(ledger, "B", "Q8_0", {rows: micros for rows, micros in Q8_0.items() if rows <= 8})

    assert named(fastest(levels(ledger, state))) == ("Q8_0", 8)
