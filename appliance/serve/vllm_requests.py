"""What of a request reaches vLLM: the gateway's fields, a version's own prompt and defaults, nothing that steers it.

vLLM takes many fields of its own (another template, other stop conditions, bodies for other programs). Ours are the
ones of OpenAI's contract; others are dropped. A user's text never becomes a control token: vLLM reads the names of such
tokens anywhere in a rendered prompt, so in what users write a joiner that has no width breaks them apart.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.serve.engine import BEYOND_OPENAI
from appliance.serve.thoughts import SWITCHES
from media.errors import MalformedError

MAX_TOKENS: Final = 256
"""Of an answer, where the caller says nothing; as with our own engine."""
_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})
_SAMPLING: Final = (
    "temperature", "top_p", "max_tokens", "seed", "stop", "n", "presence_penalty", "frequency_penalty", "logit_bias",
    "response_format", "stream", "cache_salt", "priority", *BEYOND_OPENAI,
)  # fmt: skip
_OF_CHAT: Final = (
    *_SAMPLING, "logprobs", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "max_completion_tokens",
)  # fmt: skip
_OF_COMPLETION: Final = (*_SAMPLING, "logprobs", "prompt")
NAMED: Final = frozenset((*_OF_CHAT, *_OF_COMPLETION, "messages")) - {"cache_salt", "priority"}
"""What a caller may be told that a refusal is about."""
_CLASSES: Final = range(3)
"""The gateway's classes of urgency, the most urgent first; no number beyond them puts anybody before all others."""
_SEEDS: Final = 2**63 - 16
"""Without those below 0, of which vLLM reads -1 as a wish for any seed. Each further answer's is one more, which must
have 64 bits with a sign, too: a larger one ends its worker, for everybody."""
_SWITCH: Final = {"wanted": True, "none": False}
"""Whether a model is to think aloud, by what the gateway asks."""
_JOINER: Final = "\u2060"
_AS_WRITTEN: Final = frozenset({"stop", "response_format"})
"""What no template puts into a prompt, and what an answer is held against as it is."""
_SPACES: Final = " \t\r\n\u2581"
_OF_MESSAGE: Final = ("role", "content", "name", "tool_calls", "tool_call_id")


class RefusedRequestError(Exception):
    """A request that vLLM is not asked; `code` is a short word for the caller, `param` the field it is about."""

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the launcher tells the door of the version that is served.

    Args:
        model_digest: Of the version; vLLM serves it under this name.
        weights_digest: Of the weights, as the launcher hashed them.
        stage: test or production.
        n_ctx: Tokens of a question and its answer.
        system_prompt: Goes before every conversation; empty for none.
        temperature: Where the caller says nothing.
        top_p: Likewise.
        controls: Names of control tokens, longest first.
        listener: Descriptor of the socket that callers come to.
        thinks: Whether vLLM tells what the model thinks aloud from its answers.
        calls: Whether vLLM reads calls of functions in what the model writes.
        model: What its files say of it, as `Anatomy` is told.
    """

    model_digest: str
    weights_digest: str
    stage: str
    n_ctx: int
    system_prompt: str
    temperature: float
    top_p: float
    controls: tuple[str, ...]
    listener: int
    thinks: bool = False
    calls: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the file that the door reads."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Facts":
        """Read what `to_bytes` wrote."""
        fields = json.loads(data)
        return cls(**{**fields, "controls": tuple(fields["controls"])})


def control_tokens(tokenizer: bytes) -> tuple[str, ...]:
    """Return the names of control tokens in a `tokenizer.json`, longest first.

    Runs of white space, which some vocabularies have as tokens of their own, are what people write and none of them,
    nor is a single character, which nothing can be put into.

    Raises:
        MalformedError: It is no tokenizer, so nobody knows them.
    """
    try:
        added = json.loads(tokenizer)["added_tokens"]
        found = {str(one["content"]) for one in added if one.get("special") or str(one["content"]).strip(_SPACES)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MalformedError(
            what="tokenizer.json names no added tokens", why=type(error).__name__, fix="choose another version"
        ) from error
    return tuple(sorted((one for one in found if len(one) > 1), key=lambda text: (-len(text), text)))


def harmless(text: str, controls: Iterable[str]) -> str:
    """Return a user's text in which no control token can be read."""
    for control in controls:
        if control in text:
            # Also where two of one name share letters, as of OLMo's |||IP_ADDRESS|||, which ends as it begins.
            text = re.sub(rf"(?={re.escape(control)}).", rf"\g<0>{_JOINER}", text, flags=re.DOTALL)
    return text


def body_of(untrusted: bytes) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises:
        RefusedRequestError: It is none.
    """
    try:
        found = json.loads(untrusted)
    except (ValueError, RecursionError):  # nesting without end, too
        found = None
    if not isinstance(found, dict):
        raise RefusedRequestError("invalid_json", "the body is a JSON object")
    return found


def chat(untrusted: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return what vLLM is asked for a chat.

    Raises:
        RefusedRequestError: Messages, or their roles, are none; or functions may be called where this version calls
            none.
    """
    if untrusted.get("tools") and untrusted.get("tool_choice") != "none" and not facts.calls:
        raise RefusedRequestError("unsupported_parameter", "this version calls no functions", param="tools")
    body = {**_common(untrusted, facts, _OF_CHAT), "messages": messages(untrusted, facts)}
    if body.get("tool_choice") not in (None, "none", "auto") and isinstance(body.get("tools"), list):
        body["tools"] = [_held(tool) for tool in body["tools"]]
    wanted = untrusted.get("thoughts")
    if wanted == "wanted" and not facts.thinks:
        raise RefusedRequestError("unsupported_parameter", "this model does not think aloud", param="thoughts")
    if isinstance(wanted, str) and wanted in _SWITCH:
        body["chat_template_kwargs"] = dict.fromkeys(SWITCHES, _SWITCH[wanted])
    return body


def completion(untrusted: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return what vLLM is asked for a completion.

    Raises:
        RefusedRequestError: The prompt is no text, or empty.
    """
    prompt = text_of(untrusted, "prompt")
    if not prompt:
        raise RefusedRequestError("empty_prompt", "the prompt is empty")
    return {**_common(untrusted, facts, _OF_COMPLETION), "prompt": harmless(prompt, facts.controls)}


def messages(untrusted: Mapping[str, Any], facts: Facts) -> list[dict[str, Any]]:
    """Return a conversation with the version's own prompt before it.

    Raises:
        RefusedRequestError: It is no list of messages with a known role and text.
    """
    said = untrusted.get("messages")
    if not isinstance(said, list) or not said:
        raise RefusedRequestError("invalid_value", "messages is a list that is not empty")
    found: list[dict[str, Any]] = []
    if facts.system_prompt:
        found.append({"role": "system", "content": facts.system_prompt})
    for message in said:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise RefusedRequestError("invalid_value", "a message has a known role")
        content = message.get("content", "")
        if not isinstance(content, str | None):
            raise RefusedRequestError("invalid_value", "content is text")
        kept = {key: _deep(message[key], facts.controls) for key in _OF_MESSAGE if key in message}
        found.append({**kept, "role": message["role"], "content": harmless(content or "", facts.controls)})
    return found


def conversation(untrusted: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return what vLLM counts of a chat: its messages, and the functions that they are told of.

    Raises:
        RefusedRequestError: As `messages`.
    """
    tools = untrusted.get("tools")
    told = {"tools": _deep(tools, facts.controls)} if isinstance(tools, list) and tools else {}
    return {"messages": messages(untrusted, facts), **told}


def text_of(body: Mapping[str, Any], key: str) -> str:
    """Return a text of a request.

    Raises:
        RefusedRequestError: It is none.
    """
    value = body.get(key)
    if not isinstance(value, str):
        raise RefusedRequestError("invalid_value", f"{key} is text")
    return value


def _common(untrusted: Mapping[str, Any], facts: Facts, allowed: Iterable[str]) -> dict[str, Any]:
    body = {
        key: untrusted[key] if key in _AS_WRITTEN else _deep(untrusted[key], facts.controls)
        for key in allowed
        if untrusted.get(key) is not None
    }
    body.setdefault("temperature", facts.temperature)
    body.setdefault("top_p", facts.top_p)
    body |= _likeliest(body)
    limit = body.pop("max_completion_tokens", None) or body.get("max_tokens", MAX_TOKENS)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise RefusedRequestError("invalid_value", "max_tokens is a whole number of at least 1")
    body["max_tokens"] = min(limit, facts.n_ctx)
    body["model"] = facts.model_digest
    if type(body.get("seed")) is int:
        body["seed"] %= _SEEDS
    if type(body.get("priority")) is not int or body["priority"] not in _CLASSES:
        body.pop("priority", None)
    if body.get("stream") is True:
        body["stream_options"] = {"include_usage": True}
    return body


def _likeliest(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return how vLLM is asked for the likeliest token alone where it refuses the contract's own words for that.

    It takes no share of 0, and at temperature 0 one answer alone. Biases, penalties and shapes count before a limit of
    one token does, and likelihoods are told from before all of them.
    """
    at_once = _number(body["temperature"]) == 0 and _number(body.get("n")) > 1
    if not at_once and _number(body["top_p"]) > 0:
        return {}
    alone: dict[str, Any] = {"top_p": 1.0, "top_k": 1}
    # Of tokens that are equally likely the seed decides: the same one each time, as at temperature 0.
    return alone | ({"temperature": 1.0, "seed": body.get("seed", 0)} if at_once else {})


def _number(value: object) -> float:
    """Return a number; 1 for what is none, which vLLM refuses by itself."""
    return value if isinstance(value, int | float) else 1


def _held(tool: Any) -> Any:
    """Return a function that must be called, its arguments held to its schema.

    vLLM holds them where a function is strict alone, and without that a small model's call may be none.
    """
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not function.get("parameters"):
        return tool
    return {**tool, "function": {"strict": True, **{k: v for k, v in function.items() if v is not None}}}


def _deep(value: Any, controls: Iterable[str]) -> Any:
    """Return a value whose texts, however deep they lie (tools, schemas), hold no control token."""
    if isinstance(value, str):
        return harmless(value, controls)
    if isinstance(value, list):
        return [_deep(one, controls) for one in value]
    if isinstance(value, dict):
        return {harmless(str(key), controls): _deep(one, controls) for key, one in value.items()}
    return value
