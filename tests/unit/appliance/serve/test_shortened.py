"""A conversation that does not fit: refused, or, where the approved profile says so, shortened and told to be."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask.testing import FlaskClient

from appliance.serve.chat_template import ChatTemplate
from media.llamaprofile import LlamaSettings
from tests.support.decoder import EchoDecoder
from tests.support.engine_app import engine_app

N_CTX = 64


@contextmanager
def engine(shorten: LlamaSettings | None) -> Iterator[tuple[FlaskClient, EchoDecoder]]:
    decoder = EchoDecoder(context_tokens=512, batch_tokens=64, sequences=2)
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")
    app, scheduler = engine_app(decoder, template, n_ctx=N_CTX, shorten=shorten)
    try:
        yield app.test_client(), decoder
    finally:
        scheduler.stop()


def asked(client: FlaskClient, text: str, **fields: Any) -> Any:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}
    return client.post("/v1/chat/completions", json=body)


def test_without_a_word_in_the_profile_it_is_refused_by_name() -> None:
    with engine(None) as (client, _):
        answer = asked(client, "x" * (N_CTX + 8))

        assert answer.status_code == 400
        assert answer.json["error"]["code"] == "context_length_exceeded"


def test_with_num_keep_beginning_and_end_stay_and_the_answer_says_how_much_was_left_out() -> None:
    with engine(LlamaSettings(num_keep=16)) as (client, _):
        fits = asked(client, "y" * 20)
        answer = asked(client, "a" * 16 + "b" * 200 + "z" * 20)

        assert "dropped_tokens" not in fits.json["usage"]
        usage = answer.json["usage"]
        assert answer.status_code == 200
        assert usage["prompt_tokens"] == N_CTX - 8
        assert usage["dropped_tokens"] == 236 - (N_CTX - 8)
