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
from tests.support.gateway import Rig, gateway
from tests.support.real_engine import DEMO, shipped_template, shipped_weights
from tests.support.versions import store_version
from tests.support.vllm_engine import in_test

CONTEXT: Final = 128 * 1024
ANSWER_TOKENS: Final = 8
SENTENCE: Final = "The night nurse wrote down who slept and who did not, and the bread was late again. "
NUMBER: Final = "My number is 123-45-6789."
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
    limits = f"message_characters = 1000000\ninput_tokens = {CONTEXT}\nmax_tokens = 64"
    with gateway(tmp_path, limits=limits) as found:
        socket, descriptor = engine
        found.promote(socket=socket, model_digest=descriptor.model_digest)
        yield found


def sentences(count: int) -> str:
    return f"{SENTENCE * count}{NUMBER}"


def test_a_question_of_128k_tokens_is_answered_masked_and_recorded_and_one_that_is_longer_refused(rig: Rig) -> None:
    shorter, longer = (
        rig.chat(sentences(count), max_tokens=1).get_json()["usage"]["prompt_tokens"] for count in (10, 20)
    )
    each = (longer - shorter) / 10
    count = int(10 + (CONTEXT - ANSWER_TOKENS - shorter) / each)

    answer = rig.chat(sentences(count), max_tokens=ANSWER_TOKENS, temperature=0)

    assert answer.status_code == 200, answer.get_data()[:500]
    used = answer.get_json()["usage"]
    assert CONTEXT - ANSWER_TOKENS - each < used["prompt_tokens"] <= CONTEXT - ANSWER_TOKENS
    assert used["completion_tokens"] == ANSWER_TOKENS
    intent, outcome = rig.bodies("request.intent")[-1], rig.bodies("request.outcome")[-1]
    assert outcome["status"] == 200
    assert NUMBER[13:-1] not in str(intent)

    refused = rig.chat(sentences(count + 2), max_tokens=ANSWER_TOKENS)
    assert refused.status_code == 400
    assert refused.get_json()["error"]["code"] == "context_length_exceeded"
