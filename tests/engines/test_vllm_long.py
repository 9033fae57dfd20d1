"""A question of 128 * 1024 tokens, from a caller through a gateway to vLLM on a card and back.

Named as in `test_vllm_launched`. The model's configuration is told that its context is as long, which it was never
trained for: what it answers means nothing. No processor is asked: it would read for too long.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from appliance.registry.descriptor import ModelDescriptor
from tests.support.engine_process import engine_site
from tests.support.gateway import Rig
from tests.support.long_question import CONTEXT, fills_the_context, gateway_before
from tests.support.vllm_engine import START_SECONDS, in_test, store_version

PYTHON: Final = os.environ.get("SEALIFT_VLLM_PYTHON", "")
MODEL: Final = os.environ.get("SEALIFT_VLLM_MODEL", "")

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (PYTHON and MODEL), reason="name SEALIFT_VLLM_PYTHON and SEALIFT_VLLM_MODEL"),
    pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no GPU"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, ModelDescriptor]]:
    folder = tmp_path_factory.mktemp("long") / "model"
    shutil.copytree(MODEL, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": CONTEXT}))
    with engine_site() as site:
        with site.at.config_file.open("a") as stream:
            stream.write(f"[engine]\nstart_seconds = {START_SECONDS}\n")
        descriptor = store_version(site, folder, n_ctx=CONTEXT)
        with in_test(site, descriptor, python=Path(PYTHON)) as socket:
            yield socket, descriptor


@pytest.fixture
def rig(engine: tuple[Path, ModelDescriptor], tmp_path: Path) -> Iterator[Rig]:
    with gateway_before(*engine, tmp_path) as found:
        yield found


def test_a_question_of_128k_tokens_is_answered_masked_and_recorded_and_one_that_is_longer_refused(rig: Rig) -> None:
    fills_the_context(rig)
