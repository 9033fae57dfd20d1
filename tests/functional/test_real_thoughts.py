"""A form behind a thought, by the library and the weights that `make demo` shipped, shown a few thoughts to copy."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.real_engine import told_by

pytestmark = pytest.mark.demo

PROGRAM = r"""
import json, sys
sys.path.insert(0, sys.argv[1])
from datetime import UTC, datetime
from pathlib import Path
from appliance.serve.application import create_engine_app
from appliance.serve.asking import Serving
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.llama_cpp import LlamaCppDecoder
from appliance.serve.scheduler import Scheduler
from media.clock import FixedClock

SOURCE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n<think>\n"
)
SHAPE = {"type": "object", "properties": {"word": {"enum": ["red", "blue"]}}, "required": ["word"],
         "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "paint", "parameters": SHAPE}}
said = []
for colour in ("blue", "red", "blue", "red"):
    shown = f"<think>\nThey say {colour}.\n</think>\n\n" + json.dumps({"word": colour})
    said += [{"role": "user", "content": f"Say {colour}."}, {"role": "assistant", "content": shown}]
said += [{"role": "user", "content": "Say blue."}]

decoder = LlamaCppDecoder(Path(sys.argv[2]), n_ctx=2048, n_batch=512, n_seq_max=2, threads=2)
scheduler = Scheduler(decoder)
serving = Serving(model_digest="ab" * 32, weights_digest="cd" * 32, stage="test", name="thinks", system_prompt="",
                  n_ctx=1024, temperature=0, top_p=1)
template = ChatTemplate(SOURCE, bos=decoder.start, eos=decoder.end)
app = create_engine_app(serving, decoder=decoder, scheduler=scheduler, template=template,
                        clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)))
client = app.test_client()


def ask(**more):
    body = {"messages": said, "max_tokens": 120, "temperature": 0, "thoughts": "apart", **more}
    return client.post("/v1/chat/completions", json=body).get_json()["choices"][0]


formed = {"type": "json_schema", "json_schema": {"name": "said", "schema": SHAPE}}
try:
    found = {
        "free": ask(),
        "formed": ask(response_format=formed),
        "at_once": ask(response_format=formed, thoughts="none"),
        "called": ask(tools=[TOOL], tool_choice="required"),
        "cut": ask(response_format=formed, max_tokens=3),
    }
finally:
    scheduler.stop()
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told_by(PROGRAM, Path(tmp_path_factory.mktemp("thoughts")))


def test_a_thought_comes_first_and_then_what_keeps_the_form(found: Any) -> None:
    message = found["formed"]["message"]

    assert found["free"]["message"]["reasoning_content"] == message["reasoning_content"] == "They say blue."
    assert json.loads(message["content"]) == {"word": "blue"}
    assert found["formed"]["finish_reason"] == "stop"


def test_a_call_comes_behind_a_thought(found: Any) -> None:
    message = found["called"]["message"]
    (call,) = message["tool_calls"]

    assert message["reasoning_content"]
    assert call["function"]["name"] == "paint"
    assert json.loads(call["function"]["arguments"])["word"] in {"red", "blue"}


def test_a_form_comes_at_once_where_nothing_is_to_be_thought(found: Any) -> None:
    message = found["at_once"]["message"]

    assert "reasoning_content" not in message
    assert json.loads(message["content"])["word"] in {"red", "blue"}


def test_an_answer_that_is_cut_in_a_thought_is_that_thought_alone(found: Any) -> None:
    assert found["cut"]["finish_reason"] == "length"
    assert found["cut"]["message"]["content"] == ""
    assert found["cut"]["message"]["reasoning_content"]
