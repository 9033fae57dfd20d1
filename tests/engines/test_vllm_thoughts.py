"""vLLM's own reader of thoughts, as a profile names it: SmolLM2 as safetensors, shown a few thoughts to copy.

The reader is OLMo 3's, which knows tags as text; most know them as tokens, which this model has not.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from appliance.gateway.reading import Text, Thought, Usage, parts_of
from appliance.serve.client import EngineClient
from media.vllmprofile import VllmSettings
from tests.engines.contract import PATIENCE_SECONDS
from tests.engines.vllm_environment import interpreter, model
from tests.support.engine_process import engine_site
from tests.support.vllm_engine import START_SECONDS, in_test, store_version

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

OPENS: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
)
SHAPE: Final = {
    "type": "object",
    "properties": {"word": {"enum": ["red", "blue"]}},
    "required": ["word"],
    "additionalProperties": False,
}
FORM: Final = {"type": "json_schema", "json_schema": {"name": "said", "schema": SHAPE, "strict": True}}


def conversation() -> list[dict[str, str]]:
    said = []
    for colour in ("blue", "red", "blue", "red"):
        shown = f"<think>\nThey say {colour}.\n</think>\n\n" + json.dumps({"word": colour})
        said += [{"role": "user", "content": f"Say {colour}."}, {"role": "assistant", "content": shown}]
    return [*said, {"role": "user", "content": "Say blue."}]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    place = tmp_path_factory.mktemp("thinks")
    folder = model(place / "model")
    (folder / "chat_template.jinja").write_text(OPENS)
    with engine_site() as site:
        with site.at.config_file.open("a") as stream:
            stream.write(f"[engine]\nstart_seconds = {START_SECONDS}\n")
        settings = VllmSettings(reasoning_parser="olmo3", gpu_memory_utilization="0.70").to_json()
        descriptor = store_version(site, folder, settings=settings)
        python = interpreter(place / "python")
        with (
            in_test(site, descriptor, python=python) as socket,
            EngineClient(socket, read_seconds=PATIENCE_SECONDS) as client,
        ):
            yield client


def asked(**more: Any) -> dict[str, Any]:
    return {"messages": conversation(), "max_tokens": 120, "temperature": 0, "thoughts": "apart", **more}


def read(events: list[dict[str, Any]]) -> tuple[str, str]:
    """Return thoughts and answer as the gateway reads them."""
    parts = [part for event in events for part in parts_of(event)]
    assert any(isinstance(part, Usage) for part in parts)
    thoughts = "".join(part.text for part in parts if isinstance(part, Thought))
    return thoughts.strip(), "".join(part.text for part in parts if isinstance(part, Text)).strip()


def test_thoughts_and_answer_are_told_apart(engine: EngineClient) -> None:
    # Whole alone: where shown thoughts end in a prompt, vLLM's readers of a stream take the model's to have ended.
    thoughts, answer = read([engine.chat(asked())])

    assert thoughts == "They say blue."
    assert json.loads(answer) == {"word": "blue"}


def test_a_caller_may_have_the_answer_at_once(engine: EngineClient) -> None:
    thoughts, answer = read([engine.chat(asked(thoughts="none", response_format=FORM))])

    assert thoughts == ""
    assert json.loads(answer)["word"] in {"red", "blue"}


def test_it_says_that_its_model_thinks_aloud(engine: EngineClient) -> None:
    assert "thoughts" in engine.status().takes
