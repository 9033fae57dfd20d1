"""SGLang's words: OpenAI's completions by tokens with fields of its own, likelihoods of a prompt, its settings.

Read in its published sources, up to release 0.5.23 (`/v1/completions`, `/generate`, `/server_info`), and tried with
0.5.16. Its `/tokenize` reads names of control tokens in any text, so tokens are counted here (`attached_tokens`).

Rules:
    SGL-1 Likelihoods of a forced text are those of a prompt (`/generate`), which SGLang takes before temperature, bias
          and limits; each is told with the token's number, and another number is a broken contract.
    SGL-2 Those of an answer's own tokens it takes after bias, penalties and shape, and perhaps after temperature: they
          are asked for only where none of these changes them.
    SGL-3 It must be set up to keep no prompt of ended answers and to honour a seed; it says so itself, or is not used.
    SGL-4 A question with `min_p` and a seed ends the server (an assertion of its sampler, in 0.5.16), so nobody's
          `min_p` gets there: it is refused by name.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.errors import EngineRefusedError
from appliance.serve import attached_older as older
from appliance.serve import attached_words as words
from appliance.serve.asking import RefusedError
from appliance.serve.attached_peer import Peer
from appliance.serve.attached_tokens import LocalTokens
from appliance.serve.engine import BEYOND_OPENAI, Generation
from appliance.serve.events import broken

GENERATE: Final = "/generate"
SETTINGS: Final = ("/server_info", "/get_server_info")
"""Newer and older releases' name for the same."""
_NEEDED: Final[Mapping[str, tuple[bool, str]]] = {
    "disable_radix_cache": (True, "it keeps the prompts of ended answers"),
    "enable_deterministic_inference": (True, "it does not honour a seed"),
    "skip_tokenizer_init": (False, "it writes no text"),
}

_ALL: Final = "max_total_num_tokens"
_ROOMS: Final = (_ALL, "max_req_input_len")
"""Of all answers at once, and of one question: what is longer SGLang cuts, or lets wait."""


class Sglang(older.CountedHere):
    """SGLang's own server.

    Args:
        peer: Who answers.
        tokens: The version's vocabulary.
        model: The name that questions have for the version; SGLang looks for adapters behind a colon alone.
    """

    def __init__(self, peer: Peer, tokens: LocalTokens, *, model: str) -> None:
        super().__init__(peer, tokens)
        self._model = model
        self._all: int | None = None

    def require_fit(self, *, context_tokens: int) -> None:
        """Pass when the peer says that it is set up as SGL-3 has it, with room for `context_tokens`.

        Raises:
            EngineLoadError: It is not, or does not say.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not answer.
        """
        said = self._settings()
        for name, (wanted, why) in _NEEDED.items():
            if said.get(name) is not wanted:
                flag = f"--{name.replace('_', '-')}"
                raise older.unfit(why, f"start it {'with' if wanted else 'without'} {flag}")
        for name in _ROOMS:
            room = said.get(name)
            if type(room) is not int or room < context_tokens:
                raise older.unfit(
                    f"its {name} is below the version's n_ctx, {context_tokens}", "give it more, or n_ctx less"
                )
        self._all = int(said[_ALL])

    def held(self, *, context_tokens: int, places: int) -> int:
        """Return a context for each place, and no more than SGLang says that it holds."""
        wanted = super().held(context_tokens=context_tokens, places=places)
        return wanted if self._all is None else min(wanted, self._all)

    @property
    def takes(self) -> tuple[str, ...]:
        """All but `min_p`; see SGL-4."""
        return tuple(name for name in BEYOND_OPENAI if name != "min_p")

    def require_askable(self, generation: Generation) -> None:
        """Pass when it can do what is wanted.

        Raises:
            RefusedError: See SGL-4, and `CountedHere.require_askable`.
        """
        if generation.sampling.min_p:
            raise RefusedError("unsupported_parameter", "this engine cannot honour min_p with a seed", param="min_p")
        super().require_askable(generation)

    def question(self, generation: Generation, *, index: int) -> dict[str, Any]:
        """Return what it is asked; every value is said, since its defaults may be the weights' publisher's."""
        sampling = generation.sampling
        body = older.asked(generation, index=index, model=self._model, every_token=-1) | {"no_stop_trim": False}
        if sampling.grammar:
            body["json_schema"] = sampling.grammar
        if generation.top_logprobs is not None:
            body["logprobs"] = generation.top_logprobs
        return body

    def likelihood(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Return how likely a continuation is: one question, which makes no token.

        Raises:
            RefusedError: The prompt is empty.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: The peer did not say.
        """
        if not prompt:
            raise RefusedError("empty_prompt", "the prompt is empty")
        asked = {
            "input_ids": [*prompt, *continuation],
            "sampling_params": {"max_new_tokens": 0, "temperature": 1.0, "top_p": 1.0, "top_k": -1},
            "return_logprob": True,
            # The first place that is told has no likelihood of its own, so it is the prompt's last.
            "logprob_start_len": len(prompt) - 1,
            "top_logprobs_num": 0,
            "return_text_in_logprobs": False,
            "stream": False,
        }
        name = self._peer.name
        meta = self._peer.ask(GENERATE, asked).get("meta_info")
        told = meta.get("input_token_logprobs") if isinstance(meta, dict) else None
        if not isinstance(told, list) or len(told) != len(continuation) + 1:
            raise broken(name, "it does not say how likely each token of a prompt was")
        return math.fsum(_of_token(entry, token, name) for entry, token in zip(told[1:], continuation, strict=True))

    def _settings(self) -> dict[str, Any]:
        newest, before = SETTINGS
        try:
            return self._peer.look(newest)
        except EngineRefusedError as error:
            if error.http_status != 404:
                raise
            return self._peer.look(before)


def _of_token(untrusted: object, token: int, name: str) -> float:
    """Return the likelihood of ``[LOGPROB, NUMBER, TEXT]``."""
    if not isinstance(untrusted, list) or len(untrusted) < 2 or type(untrusted[1]) is not int or untrusted[1] != token:
        raise broken(name, "it tells how likely another token was than it was asked")
    return words.logprob_of(untrusted[0], name)
