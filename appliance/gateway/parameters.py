"""What callers may ask, read strictly: every parameter is honoured, named as ignored, or refused with its name.

Nothing is dropped in silence. The limits are requirements E13-E19; texts lose their control characters except tab, line
feed and carriage return (X17).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from appliance.config import LimitsSection
from appliance.gateway.formats import (
    MAX_ANSWERS,
    ResponseFormat,
    read_answers,
    read_logprobs,
    read_response_format,
)
from appliance.gateway.identity import MOST_PERSON
from appliance.gateway.messages import Message, read_messages, read_text
from appliance.gateway.problems import Problem, invalid, unknown_parameter
from appliance.gateway.tools import read_tool_choice, read_tools

IGNORED: Final = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Accepted and without effect on the answer; those that came are named in `x-sealift-ignored` (docs/api.md)."""

# Parameters whose only value this version honours is the one that asks for nothing.
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": (),
    "functions": (),
    "modalities": (["text"],),
    "prediction": (),
    "suffix": ("",),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_HONOURED: Final = frozenset(
    {
        "chat_template_kwargs",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "min_p",
        "n",
        "presence_penalty",
        "repetition_penalty",
        "response_format",
        "top_logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "parallel_tool_calls",
        "prompt",
        "reasoning_effort",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
_MOST_TOP_K: Final = 1000
ASK_FOR_NOTHING: Final[Mapping[str, float]] = {"top_k": 0, "min_p": 0, "repetition_penalty": 1}
"""Values of words beyond OpenAI's that may be left out for an engine that does not take them."""
_ONLY: Final = {
    "chat_template_kwargs": "chat",
    "messages": "chat",
    "max_completion_tokens": "chat",
    "parallel_tool_calls": "chat",
    "tool_choice": "chat",
    "tools": "chat",
    "prompt": "completions",
    "reasoning_effort": "chat",
    "response_format": "chat",
    "top_logprobs": "chat",
}
NOT_OF_STREAMS: Final = frozenset({"continuous_usage_stats", "include_obfuscation"})
"""What may be said no to of a stream, and nothing else: OpenAI's word for filling, vLLM's for counts in every chunk."""
MOST_BIASES: Final = 300
MOST_BIAS: Final = 100
TOKEN: Final = re.compile(r"0|[1-9][0-9]{0,6}")
_MAX_STOPS: Final = 4
_MAX_STOP_CHARACTERS: Final = 256


class Endpoint(StrEnum):
    """The two ways to ask for an answer; also the label of metrics and records."""

    CHAT = "chat"
    COMPLETIONS = "completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request whose every parameter was checked. Exactly one of `messages` and `prompt` is given.

    Attributes:
        more_prompts: What a completion is asked besides, in the caller's order.
        max_tokens: How many tokens an answer may have; the site's number where `names_length` is false.
        length_param: What the caller calls that.
        is_unbounded: Whether the caller asked for as many as there may be, whatever that is.
        answers: How many answers are wanted, to each prompt.
        logit_bias: What is added to the logits of tokens of the served model's own vocabulary, by number.
        logprobs: With how many alternatives each token is told; None where no probabilities are wanted.
        response_format: The form of the answers; None for any text.
        stop: Where the engine ends an answer.
        own_stop: Where the gateway does, in the text that the caller gets; tokens stand in them, too.
        thinks: Whether a model that can think aloud is to do it before it answers; None leaves it to the model.
        function_names: How the engine calls a function whose name held an identifier, and that name with its token.
    """

    endpoint: Endpoint
    model: str
    messages: tuple[Message, ...] = ()
    prompt: str = ""
    more_prompts: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    max_tokens: int
    names_length: bool = True
    length_param: str = "max_tokens"
    is_unbounded: bool = False
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    beyond_openai: Mapping[str, float] = field(default_factory=dict)
    answers: int = 1
    logit_bias: Mapping[str, float] = field(default_factory=dict)
    logprobs: int | None = None
    response_format: ResponseFormat | None = None
    stop: tuple[str, ...] = ()
    own_stop: tuple[str, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    thinks: bool | None = None
    function_names: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    ignored: tuple[str, ...] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        """What a completion is asked; nothing for a chat."""
        return (self.prompt, *self.more_prompts) if self.prompt else ()

    @property
    def all_answers(self) -> int:
        """How many answers are wanted in all."""
        return self.answers * max(len(self.prompts), 1)

    def in_own_words(self, problem: Problem) -> Problem:
        """Return a refusal whose parameter is the caller's: engines say what is too long, not what it came as."""
        if problem.param == "messages" and self.endpoint is Endpoint.COMPLETIONS:
            problem.param = "prompt"
        return problem

    def of_one_prompt(self) -> Iterator["Asked"]:
        """Yield what an engine is asked, one prompt at a time; a chat as it is."""
        for prompt in self.prompts or ("",):
            yield replace(self, prompt=prompt, more_prompts=()) if self.more_prompts else self


def known(endpoint: Endpoint) -> dict[str, tuple[Any, ...] | None]:
    """Return every parameter of an endpoint: its only values where those ask for nothing, else None."""
    honoured = [name for name in (*_HONOURED, *IGNORED) if _ONLY.get(name, endpoint) == endpoint]
    return {**_NEUTRAL, **dict.fromkeys(honoured)}


def read(untrusted: Mapping[str, Any], *, endpoint: Endpoint, limits: LimitsSection) -> Asked:
    """Check every parameter of a request.

    Raises:
        Problem: One is unknown, of a wrong type or out of range; `param` names it.
    """
    given = {name: value for name, value in untrusted.items() if value is not None}
    ignored = [name for name in given if _is_ignored(name, given[name], endpoint)]
    tools = read_tools(given)
    messages: tuple[Message, ...] = ()
    prompts: tuple[str, ...] = ("",)
    if endpoint is Endpoint.CHAT:
        messages, unread = read_messages(given.get("messages"), max_characters=limits.message_characters)
        ignored += [f"messages.{name}" for name in unread]
    else:
        prompts = _prompts(given, limits.message_characters)
    if {"max_tokens", "max_completion_tokens"} <= set(given):
        ignored += ["max_tokens"] if given["max_tokens"] != given["max_completion_tokens"] else []
    stream = _truth(given, "stream", default=False)
    return Asked(
        endpoint=endpoint,
        model=_model(given),
        messages=messages,
        prompt=prompts[0],
        more_prompts=prompts[1:],
        stream=stream,
        include_usage=_include_usage(given, stream=stream),
        max_tokens=_max_tokens(given, limits),
        names_length="max_tokens" in given or "max_completion_tokens" in given,
        length_param="max_completion_tokens" if "max_completion_tokens" in given else "max_tokens",
        temperature=_number(given, "temperature", high=2.0),
        top_p=_number(given, "top_p", high=1.0),
        seed=_seed(given),
        frequency_penalty=_number(given, "frequency_penalty", low=-2.0, high=2.0),
        presence_penalty=_number(given, "presence_penalty", low=-2.0, high=2.0),
        beyond_openai=_beyond_openai(given),
        answers=read_answers(given, prompts=len(prompts)),
        logit_bias=_biases(given),
        logprobs=read_logprobs(given, endpoint=endpoint.value),
        response_format=read_response_format(given),
        stop=_stop(given),
        tools=tools,
        tool_choice=read_tool_choice(given, tools=tools),
        parallel_tool_calls=_truth(given, "parallel_tool_calls") if "parallel_tool_calls" in given else None,
        thinks=_thinks(given),
        user=_person(given),
        ignored=tuple(sorted(ignored)),
    )


def _is_ignored(name: str, value: object, endpoint: Endpoint) -> bool:
    if name in IGNORED:
        return True
    if name in _HONOURED:
        if _ONLY.get(name, endpoint) != endpoint:
            raise invalid(name, "This endpoint does not know the parameter.", code="unknown_parameter")
        return False
    if name not in _NEUTRAL:
        raise unknown_parameter(name)
    if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in _NEUTRAL[name]):
        raise invalid(name, "This version does not support the parameter.", code="unsupported_parameter")
    return False


def _model(given: Mapping[str, Any]) -> str:
    model = given.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("model", "Name a model; see /v1/models.", code="missing_required_parameter")
    return model


def _prompts(given: Mapping[str, Any], max_characters: int) -> tuple[str, ...]:
    value = given.get("prompt")
    texts = value if isinstance(value, list) else [value]
    known = [text for text in texts if isinstance(text, str)]
    if not 1 <= len(texts) <= MAX_ANSWERS or len(known) < len(texts):
        raise invalid("prompt", f"The prompt is a text, or a list of 1 to {MAX_ANSWERS}.")
    prompts = tuple(read_text(text, param="prompt", max_characters=max_characters) for text in known)
    if not all(prompts):
        raise invalid("prompt", "The prompt is empty.")
    return prompts


def _max_tokens(given: Mapping[str, Any], limits: LimitsSection) -> int:
    value: int = min(limits.default_max_tokens, limits.max_tokens)
    for name in ("max_tokens", "max_completion_tokens"):  # the later one counts
        value = given.get(name, value)
        if type(value) is not int or not 1 <= value <= limits.max_tokens:
            raise invalid(name, f"A whole number from 1 to {limits.max_tokens}.")
    return value


def _number(given: Mapping[str, Any], name: str, *, high: float, low: float = 0.0) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise invalid(name, f"A number from {low:g} to {high:g}.")
    return float(value)


def _beyond_openai(given: Mapping[str, Any]) -> dict[str, float]:
    """Return vLLM's words that came, for engines that say that they take them."""
    found: dict[str, float] = {}
    if (top_k := given.get("top_k")) is not None:
        if type(top_k) is not int or not -1 <= top_k <= _MOST_TOP_K:
            raise invalid("top_k", f"A whole number from 1 to {_MOST_TOP_K}; 0 or -1 for all.")
        found["top_k"] = max(top_k, 0)
    for name, low, high in (("min_p", 0.0, 1.0), ("repetition_penalty", 0.01, 2.0)):
        if (number := _number(given, name, low=low, high=high)) is not None:
            found[name] = number
    return found


def _seed(given: Mapping[str, Any]) -> int | None:
    value = given.get("seed")
    if value is not None and (type(value) is not int or not -(2**63) <= value < 2**63):
        raise invalid("seed", "A whole number of 64 bits.")
    return value


def _truth(given: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise invalid(name, "true or false.")
    return value


def _include_usage(given: Mapping[str, Any], *, stream: bool) -> bool:
    options = given.get("stream_options")
    if options is None:
        return False
    if not stream:
        raise invalid("stream_options", "Only with stream.")
    if not isinstance(options, dict):
        raise invalid("stream_options", "An object.")
    for name, value in options.items():
        if name not in {"include_usage", *NOT_OF_STREAMS}:
            raise invalid("stream_options", "It holds an unknown member.", code="unknown_parameter")
        if not isinstance(value, bool | None):
            raise invalid(f"stream_options.{name}", "true or false.")
        if value and name in NOT_OF_STREAMS:
            raise invalid(f"stream_options.{name}", "Not supported.", code="unsupported_parameter")
    return options.get("include_usage") is True


def _thinks(given: Mapping[str, Any]) -> bool | None:
    """Return whether the model is to think aloud, in the words that callers have for it.

    Raises:
        Problem: Another word of a template's, or an effort that nobody here can weigh.
    """
    effort, switches = given.get("reasoning_effort"), given.get("chat_template_kwargs", {})
    if effort not in (None, "none"):
        raise invalid("reasoning_effort", "Only none is supported.", code="unsupported_parameter")
    if not isinstance(switches, dict) or not set(switches) <= {"enable_thinking"}:
        raise invalid("chat_template_kwargs", "Only enable_thinking is supported.", code="unsupported_parameter")
    switch = switches.get("enable_thinking")
    if switch is not None and not isinstance(switch, bool):
        raise invalid("chat_template_kwargs.enable_thinking", "true or false.")
    if effort and switch:
        raise invalid("reasoning_effort", "Not together with enable_thinking.")
    return False if effort else switch


def _stop(given: Mapping[str, Any]) -> tuple[str, ...]:
    value = given.get("stop", [])
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > _MAX_STOPS:
        raise invalid("stop", f"A text or a list of up to {_MAX_STOPS} texts.")
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop) <= _MAX_STOP_CHARACTERS:
            raise invalid("stop", f"Each text has 1 to {_MAX_STOP_CHARACTERS} characters.")
    read_stops = tuple(read_text(stop, param="stop", max_characters=_MAX_STOP_CHARACTERS) for stop in stops)
    if not all(read_stops):
        raise invalid("stop", "A text of control characters alone is none: they are removed.")
    return read_stops


def _biases(given: Mapping[str, Any]) -> Mapping[str, float]:
    value = given.get("logit_bias", {})
    if not isinstance(value, dict) or len(value) > MOST_BIASES:
        raise invalid("logit_bias", f"An object of at most {MOST_BIASES} tokens.")
    for token, bias in value.items():
        if not TOKEN.fullmatch(token):
            raise invalid("logit_bias", "A token is its number in the served model's vocabulary.")
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -MOST_BIAS <= bias <= MOST_BIAS:
            raise invalid("logit_bias", f"A bias is a number from -{MOST_BIAS} to {MOST_BIAS}.")
    return value


def _person(given: Mapping[str, Any]) -> str:
    named = [name for name in ("safety_identifier", "user") if given.get(name) is not None]
    for name in named:
        if not isinstance(given[name], str) or len(given[name]) > MOST_PERSON:
            raise invalid(name, f"A text of up to {MOST_PERSON} characters.")
    return str(given[named[0]]) if named else ""
