"""LangChain, the `llm` command and schemathesis against the gateway as its unit runs it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import api_clients
from tests.support.engine import DIMENSIONS, Script
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, gateway_server

# The first of them installs the clients, which takes minutes on a busy machine without a cache.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(800)]
_MANY = "requests_per_minute = 60000\nunauthenticated_per_minute = 60000"
# By itself it does not count 413 as a refusal of what a schema does not allow. What one does allow is answered, but for
# these, of which some is refused by what a schema does not tell:
# - lists go on behind an id that is in them (`after`);
# - a body's fields depend on one another (`stream_options` only with `stream`, what a turn holds on its role);
# - of the version that is loaded depends whether it thinks aloud, and whether its vectors can be cut (`dimensions`).
_REFUSALS = """
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "409", "413", "5xx"]

[[operations]]
include-name = [
  "GET /v1/batches", "GET /v1/files",
  "POST /v1/chat/completions", "POST /v1/completions", "POST /api/chat", "POST /api/generate",
  "POST /v1/embeddings", "POST /api/embed",
]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "429", "5xx"]
"""
_LANGCHAIN = """
import asyncio, json, sys
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_core.messages import HumanMessage, SystemMessage
import openai

url, key, model = sys.argv[1:]
chat = ChatOpenAI(base_url=url, api_key=key, model=model, max_retries=0, temperature=0)
said = [SystemMessage("be brief"), HumanMessage("SSN 123-45-6789")]
whole = chat.invoke(said)
found = {"whole": whole.content, "reason": whole.response_metadata["finish_reason"], "tokens": whole.usage_metadata}
found["streamed"] = [piece.content for piece in chat.stream(said)]
found["async"] = asyncio.run(chat.ainvoke("hello")).content
found["batch"] = [one.content for one in chat.batch(["one", "two", "three"])]
# Text, not the tokens of OpenAI's own vocabulary, which this model would take for other words.
vectors = OpenAIEmbeddings(base_url=url, api_key=key, model=model, check_embedding_ctx_length=False, max_retries=0)
found["documents"] = vectors.embed_documents(["one", "two", "one"])
found["query"] = vectors.embed_query("one")
try:
    ChatOpenAI(base_url=url, api_key="sl-unknown2345-" + "x" * 43, model=model, max_retries=0).invoke("hello")
except openai.AuthenticationError as error:
    found["refused"] = error.code
print(json.dumps(found))
"""
_LANGCHAIN_TOOLS = """
import asyncio, json, sys
from langchain_openai import ChatOpenAI
from langchain_core.tools import tool
from pydantic import BaseModel

class LookUp(BaseModel):
    city: str
    days: int

@tool
def look_up(city: str, days: int) -> str:
    \'\'\'Return the weather of a city for some days.\'\'\'
    return ""

url, key, model, what = sys.argv[1:]
chat = ChatOpenAI(base_url=url, api_key=key, model=model, max_retries=0, temperature=0)
if what == "calls":
    bound = chat.bind_tools([look_up])
    whole, later = bound.invoke("weather?"), asyncio.run(bound.ainvoke("weather?"))
    pieces = list(bound.stream("weather?"))
    joined = pieces[0]
    for piece in pieces[1:]:
        joined += piece
    told = [[(call["name"], call["args"]) for call in one.tool_calls] for one in (whole, later, joined)]
    print(json.dumps({"calls": told, "pieces": len(pieces)}))
else:
    made = chat.with_structured_output(LookUp, method="json_schema").invoke("weather?")
    print(json.dumps(made.model_dump()))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gateway_server(tmp_path_factory.mktemp("gateway"), limits=_MANY) as running:
        yield running


@pytest.fixture(autouse=True)
def plain_engine(server: Server) -> None:
    server.engine.script = Script()


def test_langchain_chats_streams_batches_and_embeds(server: Server, tmp_path: Path) -> None:
    words = ["python", "-c", _LANGCHAIN, f"{server.url}/v1", server.key, MODEL]

    done = api_clients.run(words, folder=tmp_path, more={})

    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["whole"] == "You said: SSN 123-45-6789"
    assert found["reason"] == "stop"
    assert found["tokens"]["total_tokens"] == found["tokens"]["input_tokens"] + found["tokens"]["output_tokens"]
    assert "".join(found["streamed"]) == found["whole"]
    assert len(found["streamed"]) > 2
    assert found["async"] == "You said: hello"
    assert found["batch"] == ["You said: one", "You said: two", "You said: three"]
    assert [len(one) for one in found["documents"]] == [DIMENSIONS] * 3
    assert found["documents"][0] == found["documents"][2] == found["query"]
    assert found["documents"][0] != found["documents"][1]
    assert found["refused"] == "invalid_api_key"


def test_langchain_calls_functions_and_gets_the_callers_own_type(server: Server, tmp_path: Path) -> None:
    words = ["python", "-c", _LANGCHAIN_TOOLS, f"{server.url}/v1", server.key, MODEL]
    arguments = '{"city":"x","days":7}'
    called = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": arguments}}

    server.engine.script = Script(text="", tool_calls=(called,))
    calls = api_clients.run([*words, "calls"], folder=tmp_path, more={})
    server.engine.script = Script(text=arguments)
    typed = api_clients.run([*words, "type"], folder=tmp_path, more={})

    assert calls.returncode == 0, calls.stderr[-2000:]
    found = json.loads(calls.stdout)
    assert found["calls"] == [[["look_up", {"city": "x", "days": 7}]]] * 3
    assert found["pieces"] > 2
    assert typed.returncode == 0, typed.stderr[-2000:]
    assert json.loads(typed.stdout) == {"city": "x", "days": 7}


def test_the_llm_command_answers_whole_and_streamed(server: Server, tmp_path: Path) -> None:
    about = {"model_id": "ward", "model_name": MODEL, "api_base": f"{server.url}/v1", "api_key_name": "ward"}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([about]))
    (tmp_path / "keys.json").write_text(json.dumps({"ward": server.key}))
    here = {"LLM_USER_PATH": str(tmp_path)}

    whole = api_clients.run(["llm", "-m", "ward", "--no-stream", "MRN: 12345678"], folder=tmp_path, more=here)
    streamed = api_clients.run(["llm", "-m", "ward", "-s", "be brief", "two words"], folder=tmp_path, more=here)

    assert (whole.returncode, whole.stdout.strip()) == (0, "You said: MRN: 12345678"), whole.stderr[-2000:]
    assert (streamed.returncode, streamed.stdout.strip()) == (0, "You said: two words"), streamed.stderr[-2000:]


def test_schemathesis_finds_no_answer_that_the_description_does_not_allow(server: Server, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(_REFUSALS)
    words = ["schemathesis", "run", f"{server.url}/v1/openapi.json", "--header", f"Authorization: Bearer {server.key}"]
    words += ["--checks", "all", "--max-examples", "10"]
    words += [
        "--generation-deterministic",
        "--request-timeout",
        "20",
        "--workers",
        "1",
        "--phases",
        "examples,coverage,fuzzing,stateful",
    ]

    done = api_clients.run(words, folder=tmp_path, more={})

    assert done.returncode == 0, done.stdout[-60000:]
    assert "Schema validation mismatch" not in done.stdout, "no operation refuses most of what is described as right"
    records = [dict(leaf.body) for leaf in server.doors[0].find(kind="request.refused", limit=50)]
    assert records, "it asked, and refusals were recorded"
    assert "internal_error" not in {one["code"] for one in records}
