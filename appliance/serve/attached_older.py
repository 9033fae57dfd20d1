"""What servers that follow vLLM have in common: its words for sampling, and OpenAI's older form of likelihoods.

Of SGLang, vLLM and TensorRT-LLM the sources were read; what differs between them is the dialects' own.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from appliance.errors import EngineLoadError
from appliance.serve import attached_words as words
from appliance.serve.asking import RefusedError
from appliance.serve.attached_peer import Peer
from appliance.serve.attached_tokens import LocalTokens
from appliance.serve.attached_words import Part
from appliance.serve.engine import BEYOND_OPENAI, Generation, Likelihood, Sampling
from appliance.serve.events import broken

SEEDS: Final = 2**31
"""How many seeds all of them take."""
_MOST_PENALTY: Final = 2.0


class CountedHere:
    """The part of a dialect (`attached_dialect.Dialect`) that is the same for all whose tokens are counted here.

    Args:
        peer: Who answers.
        tokens: The version's vocabulary.
    """

    def __init__(self, peer: Peer, tokens: LocalTokens) -> None:
        self._peer = peer
        self._tokens = tokens

    @property
    def vocabulary_tokens(self) -> int:
        """How many tokens there are."""
        return self._tokens.vocabulary_tokens

    @property
    def takes(self) -> tuple[str, ...]:
        """All of them."""
        return BEYOND_OPENAI

    @property
    def leaves_stops_out(self) -> bool:
        """All of them do."""
        return True

    def held(self, *, context_tokens: int, places: int) -> int:
        """Return a context for each place: such servers hold one for each answer, and none tells of fewer."""
        return context_tokens * places

    @property
    def named(self) -> Collection[int]:
        """Its added tokens."""
        return self._tokens.named

    @property
    def opening(self) -> Sequence[int]:
        """What the vocabulary's own file puts before a text."""
        return self._tokens.opening

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of a text; control tokens are recognised only when `special`.

        Raises:
            RefusedError: The vocabulary does not have it.
        """
        return self._tokens.tokenize(text, special=special)

    def require_askable(self, generation: Generation) -> None:
        """Pass when all of them can do what is wanted.

        Raises:
            RefusedError: A penalty is beyond what they take, or likelihoods might not be the model's own.
        """
        sampling = generation.sampling
        for name, value in (
            ("frequency_penalty", sampling.frequency_penalty),
            ("presence_penalty", sampling.presence_penalty),
            ("repetition_penalty", sampling.repeat_penalty),
        ):
            if value > _MOST_PENALTY:
                raise RefusedError("invalid_value", f"{name} is at most {_MOST_PENALTY:g} here", param=name)
        if generation.top_logprobs is not None and _is_changed(sampling):
            raise RefusedError(
                "unsupported_parameter",
                "this engine tells likelihoods at temperature 0 or 1 alone, without bias, penalties or a shape",
                param="logprobs",
            )

    def part_of(self, untrusted: Mapping[str, Any], *, top: int | None) -> Part:
        """Return what an event says; likelihoods are in OpenAI's older form.

        Raises:
            EngineProtocolError: It reports a failure, or breaks OpenAI's form.
        """
        return words.part_of(untrusted, top=top, name=self._peer.name, likelihoods_of=likelihoods)


def unfit(why: str, fix: str) -> EngineLoadError:
    """Return the error of a peer that is set up otherwise than an engine's contract needs it."""
    return EngineLoadError(what="the attached engine is not set up as its contract needs it", why=why, fix=fix)


def asked(generation: Generation, *, index: int, model: str, every_token: int) -> dict[str, Any]:
    """Return what each of them is asked for one of a generation's answers; every value is said, so no default decides.

    Args:
        generation: What is wanted.
        index: Which of its answers.
        model: The name that the peer has for it.
        every_token: The peer's `top_k` for no limit.
    """
    return words.asked_of_all(generation, index=index, model=model, seeds=SEEDS) | {
        "min_tokens": 0,
        "n": 1,
        "echo": False,
        "ignore_eos": False,
        "skip_special_tokens": True,
        **drawn(generation.sampling, every_token=every_token),
    }


def drawn(sampling: Sampling, *, every_token: int) -> dict[str, float]:
    """Return what of OpenAI's words for how a token is drawn is wanted, and of theirs; see `asked`."""
    is_greedy = sampling.top_p <= 0  # the likeliest token alone; they take no share of 0
    return {
        "top_p": 1.0 if is_greedy else min(sampling.top_p, 1.0),
        "top_k": 1 if is_greedy else sampling.top_k or every_token,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repeat_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }


def likelihoods(untrusted: object, top: int, name: str) -> tuple[Likelihood, ...]:
    """Return what a choice says of its tokens in OpenAI's older form; nothing where it says nothing.

    Raises:
        EngineProtocolError: It breaks that form.
    """
    if untrusted is None:
        return ()
    fields = untrusted if isinstance(untrusted, dict) else {}
    tokens, logprobs, tops = (fields.get(key) or [] for key in ("tokens", "token_logprobs", "top_logprobs"))
    if not all(isinstance(one, list) for one in (tokens, logprobs, tops)) or len(tokens) != len(logprobs):
        raise broken(name, "it does not say of each token how likely it was")
    if tops and len(tops) != len(tokens):
        raise broken(name, "it does not say of each token what else was likely")
    return tuple(
        Likelihood(
            token=words.piece_of(token, name),
            logprob=words.logprob_of(logprob, name),
            top=_top(tops[at], top, name) if tops else (),
        )
        for at, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True))
    )


def _top(untrusted: object, top: int, name: str) -> tuple[tuple[bytes, float], ...]:
    others = untrusted if isinstance(untrusted, dict) else {}
    found = [(words.piece_of(token, name), words.logprob_of(logprob, name)) for token, logprob in others.items()]
    return tuple(sorted(found, key=lambda pair: -pair[1])[:top])


def _is_changed(sampling: Sampling) -> bool:
    """Return whether anything but the model decides how likely a peer says that a drawn token was."""
    return (
        sampling.temperature not in {0, 1}
        or bool(sampling.logit_bias or sampling.grammar)
        or (sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty) != (1, 0, 0)
    )
