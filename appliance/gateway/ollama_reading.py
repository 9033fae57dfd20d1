"""Ollama's requests, put into OpenAI's words and then read by the same strict reader; nothing is dropped in silence.

Source: Ollama's API documentation (docs/api.md of its repository). `/api/generate` applies the version's own chat
template to its prompt, as Ollama does, unless `raw` asks for the prompt as it is. A template, adapters and images of a
caller's own are refused: what answers is what was promoted.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from appliance.config import LimitsSection
from appliance.gateway import parameters
from appliance.gateway.dialect import About, Writer
from appliance.gateway.ollama_messages import in_openais_words
from appliance.gateway.ollama_words import OPTIONS
from appliance.gateway.ollama_writing import LineWriter
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.problems import invalid

NO_LIMIT: Final = frozenset({-1, -2})  # of num_predict: until the model ends, until the context is full
_ANY_SEED: Final = -1
# How a model is loaded is decided when it is promoted, so these are without effect here and named as such.
LOADING: Final = frozenset(
    {"f16_kv", "low_vram", "main_gpu", "num_batch", "num_ctx", "num_gpu", "num_keep", "num_thread", "numa"}
    | {"use_mlock", "use_mmap", "vocab_only"}
)
# What changes answers and is not offered here, with the values that ask for nothing.
NEUTRAL_OPTIONS: Final[Mapping[str, tuple[Any, ...]]] = {
    "mirostat": (0,),
    "mirostat_eta": (0,),
    "mirostat_tau": (0,),
    "penalize_newline": (False,),
    "repeat_last_n": (64,),
    "tfs_z": (1,),
    "typical_p": (1,),
}
NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "context": ([],),
    "images": ([],),
    "logprobs": (False,),
    "suffix": ("",),
    "template": ("",),
    "top_logprobs": (0,),
}
_OWN: Final = frozenset({"model", "stream", "options", "keep_alive", "format"})
CHAT: Final = _OWN | {"messages", "think", "tools"}
GENERATE: Final = _OWN | {"prompt", "system", "raw", "think"}
SHOW: Final = frozenset({"model", "name", "verbose"})
NEUTRAL_SHOWN: Final[Mapping[str, tuple[Any, ...]]] = {"options": ({},), "system": ("",), "template": ("",)}
# Values that ask for nothing, but for `keep_alive`, of which 0 asks for something.
_UNASKED: Final[tuple[Any, ...]] = ("", False, [], {})
_OURS: Final = {"messages.reasoning": "messages.thinking"}
"""What the reader names in OpenAI's words, as Ollama calls it."""
LATEST: Final = ":latest"


class Ollama:
    """The dialect of one of Ollama's two ways to ask.

    Args:
        is_chat: `/api/chat`, else `/api/generate`.
    """

    def __init__(self, *, is_chat: bool) -> None:
        self._is_chat = is_chat

    def read(self, untrusted: Mapping[str, Any], *, endpoint: Endpoint, limits: LimitsSection) -> Asked:
        """Check every parameter of a request.

        Raises:
            Problem: One is unknown, of a wrong type, out of range or not offered here; `param` names it.
        """
        given = {name: value for name, value in untrusted.items() if value is not None}
        _require_known(given, CHAT if self._is_chat else GENERATE)
        options, ignored = _options(given, limits)
        words = {"model": model_of(given), "stream": given.get("stream", True), **options, **_format(given)}
        thinks = given.get("think")
        if thinks is not None and not isinstance(thinks, bool):
            raise invalid("think", "true or false.", code="unsupported_parameter")
        if self._is_chat:
            words["messages"] = in_openais_words(given.get("messages"))
            words |= {name: given[name] for name in ("tools",) if name in given}
        else:
            endpoint = Endpoint.COMPLETIONS if _is_raw(given) else Endpoint.CHAT
            if endpoint is Endpoint.COMPLETIONS and "response_format" in words:
                raise invalid("format", "Not with raw.", code="unsupported_parameter")
            if endpoint is Endpoint.COMPLETIONS and thinks:
                raise invalid("think", "Not with raw.", code="unsupported_parameter")
            if endpoint is Endpoint.COMPLETIONS and thinks is not None:
                ignored.append("think")  # nobody is told not to think where the text is continued as it is
            words |= _prompt(given, is_raw=endpoint is Endpoint.COMPLETIONS)
        asked = parameters.read(words, endpoint=endpoint, limits=limits)
        ignored += [name for name in ("keep_alive",) if name in given]
        longest = given.get("options", {}).get("num_predict")
        return replace(
            asked,
            thinks=thinks,
            is_unbounded=type(longest) is int and longest in NO_LIMIT,
            ignored=tuple(sorted({*(_OURS.get(name, name) for name in asked.ignored), *ignored})),
        )

    def writer(self, about: About) -> Writer:
        """Return what writes one answer."""
        return LineWriter(about, is_chat=self._is_chat)


def model_of(given: Mapping[str, Any]) -> Any:
    """Return the model that is named, by `model` or `name`, without the tag that Ollama adds to every name."""
    model = given.get("model", given.get("name"))
    return model.removesuffix(LATEST) if isinstance(model, str) else model


def only_loads(untrusted: Mapping[str, Any], *, is_chat: bool) -> bool:
    """Tell whether a request asks for nothing but that its model is loaded, as Ollama's clients do ahead of time."""
    return not untrusted.get("messages") if is_chat else untrusted.get("prompt") in (None, "")


def read_load(untrusted: Mapping[str, Any], *, is_chat: bool) -> list[str]:
    """Return the names of what has no effect in a request that only wants its model to be loaded.

    Raises:
        Problem: A parameter or an option is unknown, or one is not offered here; `param` names it.
    """
    given = {name: value for name, value in untrusted.items() if value is not None}
    _require_known(given, CHAT if is_chat else GENERATE)
    ignored = loading_options(given)
    ignored += [name for name in ("format", "raw", "system", "think", "tools") if given.get(name, "") not in _UNASKED]
    ignored += [name for name in ("keep_alive",) if name in given]
    return sorted(ignored)


def read_show(untrusted: Mapping[str, Any]) -> list[str]:
    """Return the names of what has no effect in a request that wants to be shown a model.

    Raises:
        Problem: A parameter is unknown, or not offered here; `param` names it.
    """
    given = {name: value for name, value in untrusted.items() if value is not None}
    _require_known(given, SHOW, neutral=NEUTRAL_SHOWN)
    return [name for name in ("verbose",) if given.get(name, "") not in _UNASKED]


def _require_known(
    given: Mapping[str, Any], known: frozenset[str], *, neutral: Mapping[str, tuple[Any, ...]] = NEUTRAL
) -> None:
    for name, value in given.items():
        if name in known:
            continue
        if name not in neutral:
            raise invalid(_shown(name), "The request holds an unknown parameter.", code="unknown_parameter")
        if not _is_neutral(value, neutral[name]):
            raise invalid(name, "This version does not support the parameter.", code="unsupported_parameter")


def _options(given: Mapping[str, Any], limits: LimitsSection) -> tuple[dict[str, Any], list[str]]:
    options = given.get("options", {})
    if not isinstance(options, dict):
        raise invalid("options", "An object.")
    words: dict[str, Any] = {}
    ignored: list[str] = []
    # Ollama's way to say that nothing counts as repeated; its usual 64 are what llama.cpp's engine looks back.
    if _is_neutral(options.get("repeat_last_n"), (0,)):
        said = options.get("repeat_penalty")
        may_be = said is None or _is_number(said)  # what is none is refused all the same
        options = {**options, "repeat_last_n": None, **({"repeat_penalty": 1} if may_be else {})}
    for name, value in options.items():
        if value is None:
            continue
        if name == "num_predict" and type(value) is int and value in NO_LIMIT:
            words[OPTIONS[name]] = limits.max_tokens
        elif name == "seed" and _is_neutral(value, (_ANY_SEED,)):
            continue
        elif name in OPTIONS:
            words[OPTIONS[name]] = value
        elif name in LOADING:
            ignored.append(f"options.{name}")
        elif name not in NEUTRAL_OPTIONS:
            raise invalid(f"options.{_shown(name)}", "An unknown option.", code="unknown_parameter")
        elif not _is_neutral(value, NEUTRAL_OPTIONS[name]):
            raise invalid(f"options.{name}", "This version does not support it.", code="unsupported_parameter")
    return words, ignored


def loading_options(given: Mapping[str, Any]) -> list[str]:
    """Return the names of a request's options where nothing is sampled, so that none of them has an effect.

    Raises:
        Problem: One is unknown.
    """
    options = given.get("options", {})
    if not isinstance(options, dict):
        raise invalid("options", "An object.")
    for name in options:
        if name not in LOADING and name not in OPTIONS and name not in NEUTRAL_OPTIONS:
            raise invalid(f"options.{_shown(name)}", "An unknown option.", code="unknown_parameter")
    return [f"options.{name}" for name, value in options.items() if value is not None]


def _format(given: Mapping[str, Any]) -> dict[str, Any]:
    value = given.get("format", "")
    if value == "":
        return {}
    if value == "json":
        return {"response_format": {"type": "json_object"}}
    if not isinstance(value, dict):
        raise invalid("format", "json, or a JSON schema.")
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "format", "schema": value}}}


def _is_raw(given: Mapping[str, Any]) -> bool:
    raw = given.get("raw", False)
    if not isinstance(raw, bool):
        raise invalid("raw", "true or false.")
    return raw


def _prompt(given: Mapping[str, Any], *, is_raw: bool) -> dict[str, Any]:
    prompt, system = given.get("prompt"), given.get("system", "")
    if not isinstance(prompt, str) or not isinstance(system, str):
        raise invalid("prompt" if isinstance(system, str) else "system", "A text.")
    if is_raw:
        if system:
            raise invalid("system", "Not with raw.")
        return {"prompt": prompt}
    said = [{"role": "system", "content": system}] if system else []
    return {"messages": [*said, {"role": "user", "content": prompt}]}


def _is_neutral(value: object, neutral: tuple[Any, ...]) -> bool:
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").isalnum() and len(name) <= 64 else "unnamed"
