"""vLLM behind our launcher alone: no media, no rollout, so that it runs wherever an environment with vLLM is.

Name its interpreter, which must find this checkout by itself (a .pth file), and a folder of safetensors
(``python -m tests.engines.smollm2 GGUF FOLDER`` makes one):
``SEALIFT_VLLM_PYTHON=… SEALIFT_VLLM_MODEL=… pytest -m engines tests/engines/test_vllm_launched.py``. On a machine with
a GPU and vLLM's build for it, it is the GPU that answers.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from appliance.registry import gpus
from appliance.serve.client import EngineClient
from tests.engines.contract import (
    PATIENCE_SECONDS,
    ends_when_its_caller_leaves,
    keeps_the_contract,
    knows_the_capital,
)
from tests.support.engine_process import engine_site
from tests.support.vllm_engine import START_SECONDS, in_test, store_version

PYTHON: Final = os.environ.get("SEALIFT_VLLM_PYTHON", "")
MODEL: Final = os.environ.get("SEALIFT_VLLM_MODEL", "")

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (PYTHON and MODEL), reason="name SEALIFT_VLLM_PYTHON and SEALIFT_VLLM_MODEL"),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Path]:
    with engine_site() as site:
        with site.at.config_file.open("a") as stream:
            stream.write(f"[engine]\nstart_seconds = {START_SECONDS}\n")
        descriptor = store_version(site, Path(MODEL))
        with in_test(site, descriptor, python=Path(PYTHON)) as socket:
            yield socket


def test_it_keeps_the_contract_of_every_engine(engine: Path) -> None:
    keeps_the_contract(engine, offers="logprobs,response_format")


def test_it_answers_what_it_was_asked(engine: Path) -> None:
    with EngineClient(engine, read_seconds=PATIENCE_SECONDS) as client:
        knows_the_capital(client)


def test_a_caller_that_leaves_ends_the_generation(engine: Path) -> None:
    with EngineClient(engine, read_seconds=PATIENCE_SECONDS) as client:
        ends_when_its_caller_leaves(client)


@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no GPU")
def test_the_gpu_that_holds_the_weights_is_measured(engine: Path) -> None:
    with EngineClient(engine, read_seconds=PATIENCE_SECONDS) as client:
        assert client.health()
    read = gpus.open_reader()()

    assert read
    assert read[0].memory_bytes > 2**30
    assert read[0].memory_bytes <= read[0].memory_total_bytes
