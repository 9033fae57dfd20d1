"""Requests for embeddings, read strictly, in OpenAI's words and in both of Ollama's.

Lists of tokens are taken where a key lets identifiers pass: numbers cannot be searched for them, so other keys send
text. They are numbers of the served model's own vocabulary, as with any engine; what OpenAI's tokenizer made is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from appliance.config import LimitsSection
from appliance.gateway.identity import MOST_PERSON
from appliance.gateway.messages import read_text
from appliance.gateway.ollama_reading import loading_options, model_of
from appliance.gateway.problems import Problem, invalid, unknown_parameter
from media.embedding import MOST_DIMENSIONS

MOST_INPUTS: Final = 2048
Wording = Literal["openai", "ollama", "ollama-one"]
_OPENAI: Final = frozenset({"dimensions", "encoding_format", "input", "model", "user"})
OLLAMA: Final = frozenset({"dimensions", "input", "keep_alive", "model", "options", "truncate"})
OLLAMA_ONE: Final = frozenset({"keep_alive", "model", "options", "prompt"})
_HIGHEST_TOKEN: Final = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedVectors:
    """A request for embeddings whose every parameter was checked.

    Attributes:
        inputs: Texts, or tokens of the model.
        dimensions: How many numbers a vector shall have; None for all.
        is_base64: Whether the caller wants vectors as OpenAI encodes them.
    """

    wording: Wording
    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    is_base64: bool = False
    user: str = ""
    ignored: tuple[str, ...] = ()


def read(untrusted: Mapping[str, Any], *, wording: Wording, limits: LimitsSection) -> AskedVectors:
    """Check every parameter of a request.

    Raises:
        Problem: One is unknown, of a wrong type or out of range; `param` names it.
    """
    given, ignored = _known(untrusted, wording)
    return AskedVectors(
        wording=wording,
        model=_model(given, wording),
        inputs=_inputs(
            given, "prompt" if wording == "ollama-one" else "input", limits, may_be_tokens=wording == "openai"
        ),
        dimensions=_dimensions(given),
        is_base64=_is_base64(given),
        user=_person(given),
        ignored=tuple(ignored),
    )


def asks_nothing(untrusted: Mapping[str, Any], wording: Wording) -> bool:
    """Tell whether a request of Ollama's only wants the model to be loaded."""
    return untrusted.get("prompt" if wording == "ollama-one" else "input") in (None, "", [])


def read_nothing(untrusted: Mapping[str, Any], wording: Wording) -> list[str]:
    """Return the names of what has no effect in a request that only wants its model to be loaded.

    Raises:
        Problem: A parameter or an option is unknown, or of a wrong type; `param` names it.
    """
    given, ignored = _known(untrusted, wording)
    _dimensions(given)
    return sorted([*ignored, *(name for name in ("dimensions",) if name in given)])


def _known(untrusted: Mapping[str, Any], wording: Wording) -> tuple[dict[str, Any], list[str]]:
    """Return what is given, none of it unknown, with the names of what never has an effect."""
    given = {name: value for name, value in untrusted.items() if value is not None}
    known = {"openai": _OPENAI, "ollama": OLLAMA, "ollama-one": OLLAMA_ONE}[wording]
    for name in given:
        if name not in known:
            raise unknown_parameter(name)
    ignored: list[str] = [name for name in ("keep_alive", "truncate", "user") if name in given]
    if wording != "openai":
        ignored += loading_options(given)
    if not isinstance(given.get("truncate", False), bool):
        raise invalid("truncate", "true or false.")
    return given, sorted(ignored)


def _model(given: Mapping[str, Any], wording: Wording) -> str:
    model = given.get("model") if wording == "openai" else model_of(given)
    if not isinstance(model, str) or not model:
        raise invalid("model", "Name a model; see /v1/models.", code="missing_required_parameter")
    return model


def _inputs(
    given: Mapping[str, Any], param: str, limits: LimitsSection, *, may_be_tokens: bool
) -> tuple[str | tuple[int, ...], ...]:
    untrusted = given.get(param)
    if untrusted is None:
        raise invalid(param, "Give a text.", code="missing_required_parameter")
    if isinstance(untrusted, str) or (isinstance(untrusted, list) and untrusted and type(untrusted[0]) is int):
        untrusted = [untrusted]
    elif param == "prompt":
        raise invalid(param, "A text.")
    if not isinstance(untrusted, list) or not 1 <= len(untrusted) <= MOST_INPUTS:
        raise invalid(param, f"A text, or a list of 1 to {MOST_INPUTS}.")
    return tuple(_input(one, param, limits, may_be_tokens=may_be_tokens) for one in untrusted)


def _input(untrusted: object, param: str, limits: LimitsSection, *, may_be_tokens: bool) -> str | tuple[int, ...]:
    if isinstance(untrusted, str):
        text = read_text(untrusted, param=param, max_characters=limits.message_characters)
        if not text.strip():
            raise invalid(param, "A text is empty.")
        return text
    if not may_be_tokens or not isinstance(untrusted, list) or not untrusted:
        raise invalid(param, "Each is a text." if not may_be_tokens else "Each is a text or a list of tokens.")
    if not all(type(one) is int and 0 <= one < _HIGHEST_TOKEN for one in untrusted):
        raise invalid(param, "A token is a whole number.")
    if len(untrusted) > limits.input_tokens:
        message = f"An input has {len(untrusted)} tokens; the limit is {limits.input_tokens}."
        raise Problem(400, "context_length_exceeded", message, param=param)
    return tuple(untrusted)


def _dimensions(given: Mapping[str, Any]) -> int | None:
    value = given.get("dimensions")
    if value is not None and (type(value) is not int or not 1 <= value <= MOST_DIMENSIONS):
        raise invalid("dimensions", f"A whole number from 1 to {MOST_DIMENSIONS}.")
    return value


def _is_base64(given: Mapping[str, Any]) -> bool:
    value = given.get("encoding_format", "float")
    if value not in ("float", "base64"):
        raise invalid("encoding_format", "float or base64.")
    return bool(value == "base64")


def _person(given: Mapping[str, Any]) -> str:
    value = given.get("user", "")
    if not isinstance(value, str) or len(value) > MOST_PERSON:
        raise invalid("user", f"A text of up to {MOST_PERSON} characters.")
    return value
