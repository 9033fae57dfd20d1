"""What a model's files say of it, and what an engine tells of that."""

from pathlib import Path

import pytest

from appliance.serve.anatomy import UNTOLD, Anatomy, of_config, of_gguf
from appliance.serve.chat_template import ChatTemplate
from tests.support.decoder import EchoDecoder
from tests.support.engine_app import engine_app
from tests.support.payload import gguf

KNOWN = Anatomy(architecture="llama", parameters=44, embedding_length=4)


def test_a_header_says_which_architecture_how_many_weights_and_how_wide(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(metadata={"llama.embedding_length": 4}, tensors={"a": (8, 4), "b": (12,)}))

    assert of_gguf(path) == KNOWN

    path.write_bytes(b"no model")
    assert of_gguf(path) == of_gguf(tmp_path / "none.gguf") == UNTOLD


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            '{"model_type": "qwen2", "hidden_size": 896, "rope_theta": 1e6}',
            Anatomy(architecture="qwen2", embedding_length=896),
        ),
        ('{"model_type": "a b", "hidden_size": "896"}', UNTOLD),
        ("[]", UNTOLD),
        ("{", UNTOLD),
    ],
)
def test_a_config_says_what_it_says(text: str, found: Anatomy) -> None:
    assert of_config(text) == found


@pytest.mark.parametrize("untrusted", [None, [], {"architecture": "x" * 65, "parameters": True, "embedding_length": 0}])
def test_what_has_another_shape_is_not_known(untrusted: object) -> None:
    assert Anatomy.from_json(untrusted) == UNTOLD


def test_an_engine_tells_what_is_known_and_its_reader_knows_it_again() -> None:
    app, scheduler = engine_app(EchoDecoder(), ChatTemplate("x"), anatomy=KNOWN)
    try:
        told = app.test_client().get("/sealift/v1/status").get_json()["model"]
    finally:
        scheduler.stop()

    assert Anatomy.from_json(told) == KNOWN
    assert UNTOLD.to_json() == {}


@pytest.mark.parametrize(
    ("parameters", "size"),
    [(0, ""), (44, "44"), (4_400, "4K"), (134_515_008, "134.52M"), (8_030_261_312, "8.0B"), (70_553_706_560, "70.6B")],
)
def test_a_size_is_said_as_ollamas_clients_read_it(parameters: int, size: str) -> None:
    assert Anatomy(parameters=parameters).size == size
