"""What form an answer must have and what is told beside it: schemas, several answers, probabilities.

What engines keep differs; that a schema is one that llama.cpp's engine keeps is asked where the engine is known.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.gateway.body import is_too_deep
from appliance.gateway.messages import clean
from appliance.gateway.problems import Problem, invalid
from appliance.serve import schema
from appliance.serve.schema import SchemaRefusedError

MAX_ANSWERS: Final = 8
MOST_TOLD: Final = 200_000
MOST_TOLD_OF_STREAM: Final = 400_000
_MAX_TOP: Final[Mapping[str, int]] = {"chat": 20, "completions": 5}
FORM_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOST_DESCRIPTION: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFormat:
    """JSON as an answer; without a schema any object."""

    name: str = ""
    description: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None

    def to_engine(self) -> dict[str, Any]:
        """Return it as OpenAI's JSON."""
        if self.schema is None:
            return {"type": "json_object"}
        held: dict[str, Any] = {"name": self.name, "schema": self.schema}
        if self.description:
            held["description"] = self.description
        if self.strict is not None:
            held["strict"] = self.strict
        return {"type": "json_schema", "json_schema": held}


def read_response_format(given: Mapping[str, Any]) -> ResponseFormat | None:
    """Return the form of the answer; None for any text.

    Raises:
        Problem: It is malformed.
    """
    value = given.get("response_format", {"type": "text"})
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("text", "json_object") and set(value) == {"type"}:
        return ResponseFormat() if kind == "json_object" else None
    held = value.get("json_schema") if kind == "json_schema" and set(value) == {"type", "json_schema"} else None
    if not isinstance(held, dict) or not set(held) <= {"name", "description", "schema", "strict"}:
        raise invalid("response_format", "Of type text, json_object, or json_schema with its schema.")
    name, description, strict = held.get("name"), held.get("description"), held.get("strict")
    if not isinstance(name, str) or not FORM_NAME.fullmatch(name):
        raise invalid("response_format.json_schema.name", "1 to 64 letters, digits, _ and -.")
    if description is not None and (not isinstance(description, str) or len(description) > MOST_DESCRIPTION):
        raise invalid("response_format.json_schema.description", f"A text of up to {MOST_DESCRIPTION} characters.")
    if strict is not None and not isinstance(strict, bool):
        raise invalid("response_format.json_schema.strict", "true or false.")
    untrusted = held.get("schema")
    if not isinstance(untrusted, dict) or is_too_deep(untrusted):
        raise invalid("response_format.json_schema.schema", "A JSON schema.")
    return ResponseFormat(
        name=name,
        description=clean(description or "", param="response_format"),
        schema=clean(untrusted, param="response_format"),
        strict=strict,
    )


def read_answers(given: Mapping[str, Any], *, prompts: int = 1) -> int:
    """Return how many answers are wanted to each prompt.

    Args:
        given: The parameters.
        prompts: How many there are; all answers together are at most `MAX_ANSWERS`.

    Raises:
        Problem: Too many, or no number.
    """
    value, most = given.get("n", 1), MAX_ANSWERS // prompts
    if type(value) is not int or not 1 <= value <= most:
        raise invalid("n", f"A whole number from 1 to {most}{'' if prompts == 1 else f' with {prompts} prompts'}.")
    return value


def read_logprobs(given: Mapping[str, Any], *, endpoint: str) -> int | None:
    """Return with how many alternatives each token is told; None where no probabilities are wanted.

    Raises:
        Problem: A value is out of range, or comes without the other.
    """
    most, value = _MAX_TOP[endpoint], given.get("logprobs", False)
    if endpoint != "chat":
        if value is False:
            return None
        return _whole("logprobs", value, most)
    if not isinstance(value, bool):
        raise invalid("logprobs", "true or false.")
    top = _whole("top_logprobs", given.get("top_logprobs", 0), most)
    if top and not value:
        raise invalid("top_logprobs", "Only with logprobs.")
    return top if value else None


def require_told(*, answers: int, max_tokens: int, logprobs: int | None, stream: bool) -> None:
    """Refuse more likelihoods than an engine's answer has room for: it would be lost after minutes.

    Of one at 4,096 tokens with 20 alternatives there are 86,016; each takes 70 to 110 bytes of JSON, and has 167 in 32
    MiB of a whole answer, 64 of a stream (`appliance.gateway.upstream`).

    Raises:
        Problem: The tokens that the answers may have, with their alternatives, are more.
    """
    most = MOST_TOLD_OF_STREAM if stream else MOST_TOLD
    if logprobs is not None and answers * max_tokens * (1 + logprobs) > most:
        message = f"At most {most} likelihoods: n * max_tokens * (1 + alternatives). Ask for fewer of one of them."
        raise invalid("logprobs" if logprobs == 0 else "top_logprobs", message)


def require_one_form(
    response_format: ResponseFormat | None, tools: tuple[Mapping[str, Any], ...], *, has_calls: bool
) -> None:
    """Refuse what asks for two forms of one answer: an engine would keep one of them alone.

    Raises:
        Problem: A form is asked for, and functions that may be called.
    """
    if response_format is not None and tools and has_calls:
        raise invalid("response_format", "Not together with tools.", code="unsupported_parameter")


def require_kept(response_format: ResponseFormat | None, tools: tuple[Mapping[str, Any], ...]) -> None:
    """Refuse what llama.cpp's engine would not keep, by name.

    Raises:
        Problem: A schema has words that are not kept, or would cost too much.
    """
    if response_format is not None and response_format.schema is not None:
        _require_schema(response_format.schema, "response_format")
    for place, tool in enumerate(tools):
        function = tool["function"]
        if function.get("strict") is True and function.get("parameters") is not None:
            _require_schema(function["parameters"], f"tools[{place}].function.parameters")


def _require_schema(untrusted: object, param: str) -> None:
    try:
        schema.read(untrusted)
    except SchemaRefusedError as error:
        message = f"The schema is not supported: at {error.at or '/'}: {error.why}."
        raise Problem(400, "invalid_schema", message, param=param) from error


def _whole(name: str, value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise invalid(name, f"A whole number from 0 to {most}.")
    return value
