"""OpenAI's completions by tokens, with vLLM's words where OpenAI has none: vLLM, TensorRT-LLM's `trtllm-serve`, others.

Such a server has no route that says how it is set up, so what the contract of an engine needs is tried when it starts.
Tokens are counted here (`attached_tokens`): what follows OpenAI takes a prompt as numbers, and says nothing of control
tokens in texts.

Rules:
    OPENAI-1 How likely a forced text is, is had a token at a time: a bias makes it the only choice, the answer must be
             that token's text, and what is told must be from before the bias (`AttachedScheduler.require_unbiased`).
    OPENAI-2 It takes a prompt as long as the version's context whole, and keeps none of an ended answer: the second
             time it is asked it says that it knew no token of it. One that says nothing of that is not used.
    OPENAI-3 A shape that it does not keep is refused, not asked for in vain.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from appliance.errors import EngineLoadError, EngineRefusedError
from appliance.serve import attached_older as older
from appliance.serve import attached_words as words
from appliance.serve.asking import RefusedError
from appliance.serve.attached_peer import Peer
from appliance.serve.attached_tokens import LocalTokens
from appliance.serve.engine import Generation, Likelihood
from appliance.serve.events import broken

MODELS: Final = "/v1/models"
BIAS: Final = 100.0
SENTENCE: Final = "Nobody had told the keeper of the lighthouse that the harbour would close. "
"""What it is tried with, said often enough."""
SHORT_TOKENS: Final = 640
"""Of the prompt that is said again: more than the pages of 16 to 256 tokens by which servers keep what they read."""
_LLAMA: Final = "llamacpp"
"""Whom llama.cpp's own server names as the model's owner."""
_SHAPED: Final = "xylophone"
_SHAPED_TOKENS: Final = 24
"""More than it has letters, quotes and an end."""


class OpenAI(older.CountedHere):
    """A server that speaks OpenAI's completions.

    Args:
        peer: Who answers.
        tokens: The version's vocabulary.
    """

    def __init__(self, peer: Peer, tokens: LocalTokens) -> None:
        super().__init__(peer, tokens)
        self.model = ""
        self.keeps_shapes = False
        self._shares = False

    def require_fit(self, *, context_tokens: int) -> None:
        """Pass when the peer did what OPENAI-2 asks of it; learn its name for the model, and whether it keeps shapes.

        Raises:
            EngineLoadError: It serves several models, has too little room, or kept a prompt.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not answer.
        """
        self.model = self.only_model()
        sentence = self.sentence()
        prompt = (sentence * (context_tokens // len(sentence) + 1))[: context_tokens - 1]
        self.require_room(prompt)
        known = self.known_of(prompt[:SHORT_TOKENS])
        if known is None:
            raise older.unfit(
                "it does not say how much of a prompt it knew (usage.prompt_tokens_details.cached_tokens)",
                "let it say so: vLLM with --enable-prompt-tokens-details",
            )
        if known:
            raise keeps_prompts()
        self.keeps_shapes = self.shape_is_kept(sentence)

    def held(self, *, context_tokens: int, places: int) -> int:
        """Return a context for each place, and one for all of llama.cpp's own server, whose places share it."""
        return context_tokens if self._shares else super().held(context_tokens=context_tokens, places=places)

    def sentence(self, text: str = SENTENCE) -> list[int]:
        """Return the tokens of what it is tried with.

        Raises:
            EngineLoadError: The vocabulary has no English letters.
        """
        found = self._tokens.tokenize(text, special=False)
        if not found:
            raise older.unfit("its vocabulary has no English letters", "choose another version")
        return found

    def require_room(self, prompt: Sequence[int]) -> None:
        """Pass when it reads a prompt whole.

        Raises:
            EngineLoadError: It refuses to.
            EngineProtocolError, EngineUnavailableError: It did not, or did not answer.
        """
        try:
            self.known_of(prompt)
        except EngineRefusedError as error:
            raise older.unfit(
                f"it refuses a prompt of {len(prompt)} tokens (status {error.http_status})",
                "give it as much context as the version's n_ctx, or n_ctx less",
            ) from error

    def require_askable(self, generation: Generation) -> None:
        """Pass when such servers can do what is wanted, and this one keeps shapes, where one is wanted (OPENAI-3).

        Raises:
            RefusedError: They cannot.
        """
        super().require_askable(generation)
        if generation.sampling.grammar and not self.keeps_shapes:
            raise RefusedError(
                "unsupported_parameter",
                "this engine does not keep to a shape of the answer; it was tried",
                param="response_format",
            )

    def question(self, generation: Generation, *, index: int) -> dict[str, Any]:
        """Return what it is asked; every value is said, since its defaults may be the weights' publisher's."""
        body = self.worded(generation, index=index)
        if generation.sampling.grammar:
            body["response_format"] = shape(json.loads(generation.sampling.grammar))
        if generation.top_logprobs is not None:
            body["logprobs"] = max(1, generation.top_logprobs)  # some take none for a wish to hear nothing
        return body

    def worded(self, generation: Generation, *, index: int) -> dict[str, Any]:
        """Return the part of a question that is neither a shape nor about likelihoods."""
        return older.asked(generation, index=index, model=self.model, every_token=0)

    def likelihood(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Return how likely a continuation is: one question for each of its tokens (OPENAI-1).

        Raises:
            RefusedError: The prompt is empty.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: The peer did not say.
        """
        if not prompt:
            raise RefusedError("empty_prompt", "the prompt is empty")
        return sum(self._forced([*prompt, *continuation[:at]], token).logprob for at, token in enumerate(continuation))

    def _forced(self, prompt: Sequence[int], token: int) -> Likelihood:
        name = self._peer.name
        said = self.asked(prompt, logprobs=1, logit_bias={str(token): BIAS})
        part = self.part_of(said, top=1)
        text = self._tokens.text_of(token)
        # At the beginning of an answer some leave a word's space out.
        if len(part.likelihoods) != 1 or (text is not None and part.text.strip() != text.strip()):
            raise broken(name, "it did not say the token that it was made to say")
        return part.likelihoods[0]

    def only_model(self) -> str:
        """Return the name that it has for the one model that it serves; learn whether its places share a context.

        Raises:
            EngineLoadError: It names none, or several.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not answer.
        """
        listed = self._peer.look(MODELS).get("data")
        rows = listed if isinstance(listed, list) else []
        names = [one.get("id") if isinstance(one, dict) else None for one in rows]
        if len(names) != 1 or not isinstance(names[0], str) or not 0 < len(names[0]) <= 4096:
            raise older.unfit("it does not name exactly one model", "start it with the version's model alone")
        self._shares = rows[0].get("owned_by") == _LLAMA
        return names[0]

    def known_of(self, prompt: Sequence[int]) -> int | None:
        """Let it read a prompt; return of how many tokens it says that it knew them, None where it does not say.

        Raises:
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not read it whole, or not answer.
        """
        said = self.asked(prompt)
        part = self.part_of(said, top=None)
        words.require_counted(part, prompt=len(prompt), most=1, name=self._peer.name)
        details = said["usage"].get("prompt_tokens_details")
        known = details.get("cached_tokens") if isinstance(details, dict) else None
        return known if type(known) is int and known >= 0 else None

    def shape_is_kept(self, prompt: Sequence[int]) -> bool:
        """Return whether an answer has the schema that was asked for (OPENAI-3)."""
        wanted = shape({"type": "string", "enum": [_SHAPED]})
        try:
            said = self.asked(prompt, max_tokens=_SHAPED_TOKENS, response_format=wanted)
        except EngineRefusedError:
            return False
        return self.part_of(said, top=None).text.strip() == json.dumps(_SHAPED)

    def asked(self, prompt: Sequence[int], **more: Any) -> dict[str, Any]:
        """Return the whole answer to a prompt: its likeliest token, unless `more` says otherwise.

        Raises:
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not answer.
        """
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0,
            "top_p": 1.0,
            "top_k": 1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "seed": 0,
            "stream": False,
        }
        return self._peer.ask(words.COMPLETIONS, body | more)


def keeps_prompts() -> EngineLoadError:
    """Return the error of a peer that reads a prompt sooner when it comes again: others could tell that it came."""
    return older.unfit(
        "it keeps the prompts of ended answers",
        "start it without: vLLM with --no-enable-prefix-caching, TensorRT-LLM with enable_block_reuse: false",
    )


def shape(schema: object) -> dict[str, Any]:
    """Return what is asked for an answer of one schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
