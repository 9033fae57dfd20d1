"""What a caller sees of a version's several engines where one of them fails."""

import threading
from pathlib import Path
from typing import Any

from tests.support.engine import Script, fake_engine
from tests.support.gateway import MODEL, events, gateway, said

STREAM: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}], "stream": True}


def test_a_stream_whose_engine_ends_while_it_reads_the_prompt_goes_on_with_another_one(tmp_path: Path) -> None:
    with (
        gateway(tmp_path) as rig,
        fake_engine(tmp_path / "two.sock") as first,
        fake_engine(tmp_path / "two-2.sock") as second,
    ):
        rig.promote(socket=tmp_path / "two.sock")
        ends = threading.Event()
        first.script = second.script = Script(hold=ends, tear_after=0)  # it has said who speaks, and reads
        response = rig.client.post("/v1/chat/completions", json=STREAM, headers=rig.headers(), buffered=False)
        chunks = response.iter_encoded()
        at_once = next(chunks)
        other = second if first.asked else first
        other.script = Script()
        ends.set()
        told = events(at_once + b"".join(chunks))
        response.close()

        assert (len(first.asked), len(second.asked)) == (1, 1)
        assert events(at_once)[0]["choices"][0]["delta"]["role"] == "assistant"
        *chunks_told, done = told
        assert (said(chunks_told), done) == ("You said: hello there", "[DONE]")
        assert [one["choices"][0]["delta"].get("role") for one in chunks_told] == ["assistant"] + [None] * (
            len(chunks_told) - 1
        )
        assert len({one["id"] for one in chunks_told}) == 1
        assert [one["outcome"] for one in rig.bodies("request.outcome")] == ["ok"]
