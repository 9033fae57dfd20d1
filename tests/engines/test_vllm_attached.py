"""vLLM's own published server as an attached engine: nothing of it is ours, and it is known by OpenAI's words alone.

It stands for what has no dialect of its own. The same version was promoted with vLLM's engine unit elsewhere
(`test_vllm_for_real`); here it is started by the attached engine's launcher, on its own socket.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.serve.client import EngineClient
from tests.engines.contract import keeps_a_shape, keeps_the_contract
from tests.engines.vllm_environment import attachable, model
from tests.engines.vllm_published import NO_PROMPTS_KEPT, SERVER, files_of
from tests.support import attached
from tests.support.engine_process import engine_site

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("model") / "smollm2")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return attachable(tmp_path_factory.mktemp("python") / "env")


@pytest.fixture(scope="module")
def engine(folder: Path, python: Path) -> Iterator[Path]:
    with engine_site() as site:
        files = files_of(folder, *SERVER, NO_PROMPTS_KEPT)
        descriptor = attached.store(site, files, name="small")
        with attached.launched(site, descriptor, python=python, seconds=300) as (socket, launcher):
            yield socket
            started = attached.descendants(launcher.pid)
        # vLLM's own processes are no children of the launcher's worker, and hold the weights.
        attached.require_several_ended(started)


def test_it_keeps_the_contract_of_every_engine(engine: Path) -> None:
    keeps_the_contract(engine, seconds=120)


def test_it_answers_in_the_shape_that_was_asked_for(engine: Path) -> None:
    with EngineClient(engine, read_seconds=120) as client:
        keeps_a_shape(client)


def test_what_it_says_of_likelihoods_is_the_models_own(engine: Path) -> None:
    with EngineClient(engine, read_seconds=120) as client:
        told = client.chat(
            {
                "messages": [{"role": "user", "content": "What is the capital of France?"}],
                "temperature": 0,
                "max_tokens": 8,
                "logprobs": True,
                "top_logprobs": 2,
            }
        )["choices"][0]["logprobs"]["content"]
        scores = client.score("The capital of France is", [" Paris", " Lyon", " xylophone"])
        paris, lyon, nonsense = (one.log_likelihood for one in scores)

    assert len(told) == 8
    assert all(one["top_logprobs"][0]["logprob"] == pytest.approx(one["logprob"], abs=0.02) for one in told)
    assert -2 < paris < 0
    assert nonsense < lyon < paris


def test_one_that_keeps_prompts_is_not_used(folder: Path, python: Path) -> None:
    with engine_site() as site:
        files = files_of(folder, *SERVER, "--enable-prefix-caching")
        descriptor = attached.store(site, files, name="small")
        said = attached.refused(site, descriptor, python=python, seconds=300)

    assert NO_PROMPTS_KEPT in said
