"""lm-eval's `local-chat-completions` against the gateway: the requests that version 0.4.13 sends, and what it reads.

The harness itself brings 760 MB of libraries and is tried in tests/interop; here the shape of its requests is written
from its public source (`lm_eval/models/openai_completions.py`, `LocalChatCompletion._create_payload`,
`parse_generations`).
"""

from typing import Any

import pytest

from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig


def payload(question: str, *, until: list[str] | None = None, **generation: Any) -> dict[str, Any]:
    """Return what the harness sends for one question of a task."""
    return {
        "messages": [{"role": "user", "content": question}],
        "model": MODEL,
        "max_tokens": generation.pop("max_gen_toks", 256),
        "temperature": generation.pop("temperature", 0),
        "stop": (until or [])[:4],
        "seed": 1234,
        **generation,
    }


def read(outputs: Any) -> list[str]:
    """Read answers as the harness does."""
    found = [""] * len(outputs["choices"])
    for choice in outputs["choices"]:
        found[choice["index"]] = choice["message"]["content"]
    return found


@pytest.mark.parametrize(
    "asked",
    [
        payload("What is two plus two?"),
        payload("What is two plus two?", until=["\n\n", "Question:"]),
        payload("What is two plus two?", until=["\n"], max_gen_toks=16, top_p=1.0),
        payload("What is two plus two?", temperature=0.7, until=["</s>", "<|im_end|>", "Q:", "\n\n\n"]),
    ],
)
def test_the_requests_of_the_harness_are_answered_as_it_reads_them(rig: Rig, asked: dict[str, Any]) -> None:
    rig.engine.script = Script(text="It is four.")

    answer = rig.client.post("/v1/chat/completions", json=asked, headers={"Authorization": f"Bearer {rig.key}"})

    assert answer.status_code == 200, answer.text
    assert read(answer.json) == ["It is four."]
    told = rig.engine.last
    assert (told["seed"], told["max_tokens"]) == (1234, asked["max_tokens"])
    assert told["temperature"] == asked["temperature"]


def test_a_stop_of_the_harness_cuts_the_answer(rig: Rig) -> None:
    rig.engine.script = Script(text="four\n\nQuestion: and three?")

    answer = rig.client.post(
        "/v1/chat/completions",
        json=payload("What is two plus two?", until=["\n\n"]),
        headers={"Authorization": f"Bearer {rig.key}"},
    )

    assert read(answer.json) == ["four"]


def test_the_same_question_has_the_same_answer_every_time(rig: Rig) -> None:
    headers = {"Authorization": f"Bearer {rig.key}"}

    answers = [
        read(rig.client.post("/v1/chat/completions", json=payload("Repeat this."), headers=headers).json)
        for _ in range(2)
    ]

    assert answers[0] == answers[1]
