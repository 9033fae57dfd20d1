"""A question of 128 * 1024 tokens, from a caller to the engine that `make demo` shipped and back, recorded and masked.

The model has one layer and random weights: what is shown is that nothing on the way is too small for such a question,
and that one token too many is refused with the counts. The site raises `limits.input_tokens`.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from appliance.registry.descriptor import ModelDescriptor
from tests.support.engine_process import ROOT, engine_site
from tests.support.gateway import Rig
from tests.support.long_question import CONTEXT, fills_the_context, gateway_before
from tests.support.real_engine import DEMO, shipped_template, shipped_weights
from tests.support.versions import store_version
from tests.support.vllm_engine import in_test

_MAKE: Final = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.support import tiny_models
Path(sys.argv[3]).write_bytes(tiny_models.attentive(Path(sys.argv[2]), context=int(sys.argv[4])))
"""

pytestmark = [pytest.mark.demo, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, ModelDescriptor]]:
    folder = tmp_path_factory.mktemp("long")
    (folder / "shipped.gguf").write_bytes(shipped_weights())
    python = max((DEMO / "appliance/opt/sealift/releases").glob("*/engine-llama-cpp/bin/python"))
    made = folder / "long.gguf"
    subprocess.run([python, "-I", "-c", _MAKE, ROOT, folder / "shipped.gguf", made, str(CONTEXT)], check=True)
    with engine_site() as site:
        _, descriptor = store_version(
            site,
            weights=made.read_bytes(),
            template=shipped_template(),
            n_ctx=CONTEXT,
            n_batch=512,
        )
        with in_test(site, descriptor, python=python) as socket:
            yield socket, descriptor


@pytest.fixture
def rig(engine: tuple[Path, ModelDescriptor], tmp_path: Path) -> Iterator[Rig]:
    with gateway_before(*engine, tmp_path) as found:
        yield found


def test_a_question_of_128k_tokens_is_answered_masked_and_recorded_and_one_that_is_longer_refused(rig: Rig) -> None:
    fills_the_context(rig)
