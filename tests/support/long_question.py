"""A question as long as a model's context, asked through a gateway: its number masked, it and its answer recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.registry.descriptor import ModelDescriptor
from tests.support.gateway import Rig, gateway

CONTEXT: Final = 128 * 1024
_LIMITS: Final = f"message_characters = 1000000\ninput_tokens = {CONTEXT}\nmax_tokens = 64"
"""Of a site that lets such a question in."""
ANSWER_TOKENS: Final = 8
_SENTENCE: Final = "The night nurse wrote down who slept and who did not, and the bread was late again. "
_NUMBER: Final = "My number is 123-45-6789."


@contextmanager
def gateway_before(socket: Path, descriptor: ModelDescriptor, folder: Path) -> Iterator[Rig]:
    """Run a gateway that lets such a question through to an engine's socket, as if its version were promoted."""
    with gateway(folder, limits=_LIMITS) as rig:
        rig.promote(socket=socket, model_digest=descriptor.model_digest)
        yield rig


def fills_the_context(rig: Rig) -> None:
    """Fail where `CONTEXT` tokens with their answer are not answered, or more are not refused by their count."""
    shorter, longer = (
        rig.chat(_sentences(count), max_tokens=1).get_json()["usage"]["prompt_tokens"] for count in (10, 20)
    )
    each = (longer - shorter) / 10
    count = int(10 + (CONTEXT - ANSWER_TOKENS - shorter) / each)

    answer = rig.chat(_sentences(count), max_tokens=ANSWER_TOKENS, temperature=0)

    assert answer.status_code == 200, answer.get_data()[:500]
    used = answer.get_json()["usage"]
    assert CONTEXT - ANSWER_TOKENS - each < used["prompt_tokens"] <= CONTEXT - ANSWER_TOKENS
    assert used["completion_tokens"] == ANSWER_TOKENS
    intent, outcome = rig.bodies("request.intent")[-1], rig.bodies("request.outcome")[-1]
    assert outcome["status"] == 200
    assert _NUMBER[13:-1] not in str(intent)

    refused = rig.chat(_sentences(count + 2), max_tokens=ANSWER_TOKENS)
    assert refused.status_code == 400
    assert refused.get_json()["error"]["code"] == "context_length_exceeded"


def _sentences(count: int) -> str:
    return f"{_SENTENCE * count}{_NUMBER}"
