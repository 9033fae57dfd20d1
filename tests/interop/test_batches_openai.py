"""OpenAI's own client drives files and batches at the gateway as its unit runs it."""

import json
import time
from collections.abc import Iterator

import openai
import pytest

from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, gateway_server

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gateway_server(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def test_it_hands_in_a_batch_waits_and_reads_the_results(server: Server) -> None:
    lines = [
        {
            "custom_id": f"q{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": MODEL, "messages": [{"role": "user", "content": f"SSN {100 + number}-45-6789"}]},
        }
        for number in range(20)
    ]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=30) as client:
        content = "\n".join(map(json.dumps, lines)).encode()
        handed = client.files.create(file=("questions.jsonl", content), purpose="batch")
        assert (handed.filename, handed.bytes) == ("questions.jsonl", len(content))
        batch = client.batches.create(
            input_file_id=handed.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
        )
        ends = time.monotonic() + 90
        while (batch := client.batches.retrieve(batch.id)).status != "completed":
            assert time.monotonic() < ends, batch.status
            time.sleep(0.1)
        assert batch.request_counts is not None
        assert (batch.request_counts.completed, batch.metadata) == (20, {"a": "b"})
        assert batch.output_file_id is not None
        answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
        assert {one["custom_id"]: one["response"]["body"]["choices"][0]["message"]["content"] for one in answers} == {
            f"q{number}": f"You said: SSN {100 + number}-45-6789" for number in range(20)
        }
        assert [one.id for one in client.batches.list(limit=5)] == [batch.id]
        assert {one.id for one in client.files.list()} == {handed.id, batch.output_file_id}
        assert {one.id for one in client.files.list(limit=1, order="asc")} == {handed.id, batch.output_file_id}
        assert [one.id for one in client.files.list(purpose="batch", order="asc")] == [handed.id]
        assert [one.id for one in client.files.list(purpose="batch_output")] == [batch.output_file_id]
        assert list(client.files.list(purpose="fine-tune")) == []
        with pytest.raises(openai.BadRequestError) as refused:
            client.batches.create(
                input_file_id=handed.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                output_expires_after={"anchor": "created_at", "seconds": 3600},
            )
        assert (refused.value.code, refused.value.param) == ("unknown_parameter", "output_expires_after")
        assert client.files.delete(handed.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(handed.id)
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)
    told = {one["response"]["request_id"] for one in answers}
    assert told == {str(one["request_id"]) for one in server.outcomes() if one["outcome"] == "ok"}
