"""Reads what the engine is asked over HTTP. Unknown fields are ignored: the gateway has the public list."""

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

from appliance.registry.descriptor import ModelDescriptor
from appliance.serve import schema
from appliance.serve.chat_template import ChatTemplate, Prompt, TemplateRefusedError
from appliance.serve.engine import BEYOND_OPENAI, Apart, Constraint, Decoder, Generation, Sampling
from appliance.serve.schema import SchemaRefusedError
from appliance.serve.thoughts import are_text
from appliance.serve.tool_calls import Tools, read_tools, told
from media.errors import SealiftError

DEFAULT_TOKENS: Final = 256
MAX_ANSWERS: Final = 16
MAX_TOP: Final = 20
MAX_SALT_CHARACTERS: Final = 128
MOST_PRIORITY: Final = 100
MAX_BIASES: Final = 300
THOUGHTS: Final = (None, "apart", "wanted", "none")
"""What may be asked of thoughts: nothing, so they are text; to tell them apart; to have some; to have none."""
_MOST_BIAS: Final = 100
_MOST: Final = 1e6
_T = TypeVar("_T")
_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})


class Shortening(Protocol):
    """What stays of a conversation that does not fit."""

    def shortened(self, tokens: list[int], *, n_ctx: int, max_tokens: int) -> list[int]:
        """Return a conversation that fits with its answer; as it is where it fits, or where nothing may be left out."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What one engine process serves; without `shorten` a conversation that does not fit is refused.

    `takes` are those of the words beyond OpenAI's that it honours.
    """

    model_digest: str
    weights_digest: str
    stage: str
    name: str
    system_prompt: str
    n_ctx: int
    temperature: float
    top_p: float
    top_k: int = 0
    repeat_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    shorten: Shortening | None = None
    takes: tuple[str, ...] = BEYOND_OPENAI

    @classmethod
    def of(
        cls,
        descriptor: ModelDescriptor,
        *,
        stage: str,
        shorten: Shortening | None = None,
        takes: tuple[str, ...] = BEYOND_OPENAI,
    ) -> "Serving":
        """Return what serving a version in a stage means."""
        runtime = descriptor.runtime
        return cls(
            model_digest=descriptor.model_digest,
            weights_digest=descriptor.weights_digest,
            stage=stage,
            name=descriptor.name,
            system_prompt=descriptor.system_prompt,
            n_ctx=runtime.request_tokens,
            temperature=runtime.temperature,
            top_p=runtime.top_p,
            top_k=runtime.top_k,
            repeat_penalty=runtime.repeat_penalty,
            stop=runtime.stop,
            shorten=shorten,
            takes=takes,
        )


class RefusedError(Exception):
    """A request that is not answered; `code` is a short word for the gateway, `param` the field it is about."""

    def __init__(self, code: str, message: str, *, status: int = 400, param: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.status = status
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is wanted: the generation, and how its answers are told.

    Attributes:
        dropped_tokens: How many were left out of the prompt.
        has_thoughts: Whether what the model thinks is told apart from its answers.
        is_thinking: Whether the prompt ends within a thought.
    """

    generation: Generation
    is_chat: bool
    tools: Tools | None = None
    dropped_tokens: int = 0
    has_thoughts: bool = False
    is_thinking: bool = False


class Reader:
    """Reads requests for one loaded version."""

    def __init__(self, serving: Serving, *, decoder: Decoder, template: ChatTemplate) -> None:
        self._serving = serving
        self._decoder = decoder
        self._template = template
        self._tags_are_text: bool | None = None

    def chat_tokens(self, body: Mapping[str, Any], tools: Tools | None = None) -> list[int]:
        """Return the tokens of a conversation, behind the version's own prompt.

        Raises:
            RefusedError: It is none.
        """
        return self._prompt(body, tools, thinks=None if tools is None else False).tokens

    def _prompt(self, body: Mapping[str, Any], tools: Tools | None, *, thinks: bool | None) -> Prompt:
        messages = _messages(body)
        if self._serving.system_prompt:
            messages = [{"role": "system", "content": self._serving.system_prompt}, *messages]
        conversation = told(messages, tools)
        try:
            return self._template.prompt(conversation, self._decoder, thinks=thinks)
        except TemplateRefusedError as error:
            raise RefusedError(
                "messages_refused", f"the model's template says: {error.why}", param="messages"
            ) from error

    def prompt_tokens(self, body: Mapping[str, Any]) -> list[int]:
        """Return the tokens of a text, behind what the model's tokenizer puts before one.

        Raises:
            RefusedError: It is none.
        """
        return [*self._decoder.opening, *self.text_tokens(text_of(body, "prompt"))]

    def text_tokens(self, text: str) -> list[int]:
        """Return the tokens of a text that goes on from another."""
        return self._decoder.tokenize(text, special=False)

    def tools(self, body: Mapping[str, Any]) -> Tools | None:
        """Return the functions that may be called.

        Raises:
            RefusedError: One is malformed.
        """
        return _refusing("tools", lambda: read_tools(body))

    def chat(self, body: Mapping[str, Any]) -> Asked:
        """Read a chat.

        Raises:
            RefusedError: A field is malformed, or the conversation does not fit.
        """
        tools = self.tools(body)
        constraint = _refusing("response_format", lambda: _response_format(body))
        if tools is not None and constraint is not None:
            raise RefusedError("unsupported_parameter", "not together with tools", param="response_format")
        if tools is not None:
            constraint = tools.constraint()
        top = integer(body, "top_logprobs", 0, low=0, high=MAX_TOP) if body.get("logprobs") is True else None
        prompt = self._prompt(body, tools, thinks=self._thinks(body, has_form=constraint is not None))
        if constraint is not None and prompt.is_thinking:
            constraint = replace(constraint, follows_thought=True)
        tokens = whole = prompt.tokens
        if self._serving.shorten is not None:
            longest = integer(body, "max_tokens", DEFAULT_TOKENS, low=1)
            tokens = self._serving.shorten.shortened(tokens, n_ctx=self._serving.n_ctx, max_tokens=longest)
        has_thoughts = body.get("thoughts") is not None and self.thinks()
        apart = Apart(thoughts=has_thoughts, is_thinking=prompt.is_thinking, calls=tools is not None)
        return Asked(
            generation=replace(self._generation(body, tokens, constraint, top), apart=apart),
            is_chat=True,
            tools=tools,
            dropped_tokens=len(whole) - len(tokens),
            has_thoughts=has_thoughts,
            is_thinking=prompt.is_thinking,
        )

    def _thinks(self, body: Mapping[str, Any], *, has_form: bool) -> bool | None:
        """Return whether the model is to think; None leaves it to the template.

        Before what must have a form a model thinks where it always does or is asked to: it might begin with the form,
        too, and nobody could tell before it wrote.

        Raises:
            RefusedError: It is to, and cannot.
        """
        wanted = body.get("thoughts")
        if wanted not in THOUGHTS:
            raise RefusedError("invalid_value", "thoughts is apart, wanted or none", param="thoughts")
        may: bool = not has_form or self._decoder.has_forms_behind_thoughts
        if wanted == "wanted" and not (may and self.thinks()):
            why = "this model does not think aloud" if may else "not together with tools or a form"
            raise RefusedError("unsupported_parameter", why, param="thoughts")
        if wanted in {"wanted", "none"}:
            return bool(wanted == "wanted")
        return (may and wanted is not None and self._template.opens_thought and self.thinks()) if has_form else None

    def thinks(self) -> bool:
        """Tell whether thoughts can be told from answers: the template knows their tags, and they are written as text.

        A model whose tags are control tokens writes none that could be read.
        """
        if self._tags_are_text is None and self._template.thinks:
            with suppress(SealiftError, RefusedError):  # an attached engine may not say, and is asked again
                self._tags_are_text = are_text(self._decoder)
        return self._tags_are_text is True

    def count(self, text: str) -> int | None:
        """Return how many tokens a text has by itself; None where nobody says."""
        try:
            return len(self.text_tokens(text))
        except (SealiftError, RefusedError):
            return None

    def completion(self, body: Mapping[str, Any]) -> Asked:
        """Read a completion.

        Raises:
            RefusedError: As `chat`.
        """
        constraint = _refusing("response_format", lambda: _response_format(body))
        top = None if body.get("logprobs") is None else integer(body, "logprobs", 0, low=0, high=MAX_TOP)
        tokens = self.prompt_tokens(body)
        return Asked(generation=self._generation(body, tokens, constraint, top), is_chat=False)

    def _generation(
        self, body: Mapping[str, Any], tokens: list[int], constraint: Constraint | None, top: int | None
    ) -> Generation:
        serving = self._serving
        if not tokens:
            raise RefusedError("empty_prompt", "the prompt is empty")
        room = serving.n_ctx - len(tokens)
        if room < 1:
            raise RefusedError("context_length_exceeded", f"{len(tokens)} tokens do not fit {serving.n_ctx}")
        grammar = ""
        if constraint is not None:
            param = "tools" if constraint.opening else "response_format"
            grammar = _refusing(param, lambda: self._decoder.grammar_of(constraint))
        return Generation(
            tokens=tokens,
            max_tokens=min(integer(body, "max_tokens", DEFAULT_TOKENS, low=1), room),
            sampling=Sampling(
                temperature=number(body, "temperature", serving.temperature, low=0),
                top_p=number(body, "top_p", serving.top_p, low=0),
                top_k=integer(body, "top_k", serving.top_k, low=0),
                min_p=number(body, "min_p", 0.0, low=0),
                repeat_penalty=number(body, "repetition_penalty", serving.repeat_penalty, low=0.01),
                frequency_penalty=number(body, "frequency_penalty", 0.0, low=-2),
                presence_penalty=number(body, "presence_penalty", 0.0, low=-2),
                seed=integer(body, "seed", secrets.randbits(31), low=-(2**63)),
                logit_bias=_biases(body, most=self._decoder.vocabulary_tokens),
                grammar=grammar,
            ),
            stop=(*_stops(body), *serving.stop),
            answers=integer(body, "n", 1, low=1, high=MAX_ANSWERS),
            top_logprobs=top,
            salt=_salt(body),
            priority=integer(body, "priority", 0, low=-MOST_PRIORITY, high=MOST_PRIORITY),
            is_streamed=body.get("stream") is True,
        )


def text_of(body: Mapping[str, Any], key: str) -> str:
    """Return a text.

    Raises:
        RefusedError: It is none.
    """
    value = body.get(key)
    if not isinstance(value, str):
        raise RefusedError("invalid_value", f"{key} is text", param=key)
    return value


def integer(body: Mapping[str, Any], key: str, default: int, *, low: int, high: int = 2**63) -> int:
    """Return a whole number.

    Raises:
        RefusedError: It is none, or out of range.
    """
    value = body.get(key)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:
        raise RefusedError("invalid_value", f"{key} is a whole number of at least {low}", param=key)
    return value


def number(body: Mapping[str, Any], key: str, default: float, *, low: float) -> float:
    """Return a number.

    Raises:
        RefusedError: It is none, or too low.
    """
    value = body.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= _MOST:
        raise RefusedError("invalid_value", f"{key} is a number of at least {low:g}", param=key)
    return float(value)


def _refusing(param: str, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except SchemaRefusedError as error:
        raise RefusedError("invalid_schema", f"{error.at}: {error.why}", param=param) from error


def _response_format(body: Mapping[str, Any]) -> Constraint | None:
    wanted = body.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return Constraint(schema={"type": "object"})
    held = wanted.get("json_schema") if isinstance(wanted, dict) and kind == "json_schema" else None
    if not isinstance(held, dict):
        raise SchemaRefusedError("", "of type text, json_object, or json_schema")
    return Constraint(schema=schema.read(held.get("schema", {"type": "object"})))


def _biases(body: Mapping[str, Any], *, most: int) -> tuple[tuple[int, float], ...]:
    given = body.get("logit_bias") or {}
    if not isinstance(given, dict) or len(given) > MAX_BIASES:
        raise RefusedError(
            "invalid_value", f"logit_bias is at most {MAX_BIASES} tokens with a number", param="logit_bias"
        )
    found = []
    for token, bias in given.items():
        if not token.isascii() or not token.isdigit() or len(token) > 10 or int(token) >= most:
            raise RefusedError("invalid_value", f"a token is a number below {most}", param="logit_bias")
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -_MOST_BIAS <= bias <= _MOST_BIAS:
            raise RefusedError(
                "invalid_value", f"a bias is a number from -{_MOST_BIAS} to {_MOST_BIAS}", param="logit_bias"
            )
        found.append((int(token), float(bias)))
    return tuple(found)


def _salt(body: Mapping[str, Any]) -> str:
    value = body.get("cache_salt")
    if value is None:
        return ""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_SALT_CHARACTERS or not value.isprintable():
        raise RefusedError("invalid_value", "cache_salt is a short text", param="cache_salt")
    return value


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    untrusted = body.get("messages")
    if not isinstance(untrusted, list) or not untrusted:
        raise RefusedError("invalid_value", "messages is a list that is not empty")
    for message in untrusted:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise RefusedError("invalid_value", "a message has a known role")
        if not isinstance(message.get("content", ""), str | None):
            raise RefusedError("invalid_value", "content is text")
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list) or not all(_is_call(one) for one in calls):
            raise RefusedError("invalid_value", "tool_calls are calls of functions")
    return untrusted


def _is_call(untrusted: object) -> bool:
    function = untrusted.get("function") if isinstance(untrusted, dict) else None
    if not isinstance(function, dict):
        return False
    return isinstance(function.get("name"), str) and isinstance(function.get("arguments"), str)


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise RefusedError("invalid_value", "stop is a text or a list of texts")
    return tuple(stops)
