"""Chat templates of the promoted profile, rendered so that a user's text can never become a control token.

The template is rendered with a mark in place of each message's content. The text between marks is ours and may hold
control tokens; what replaces a mark is tokenized as plain text (llama.cpp's ``parse_special`` off). Of a message the
template sees role and content only.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.errors import EngineLoadError, EngineProtocolError

MAX_RENDERED_CHARACTERS: Final = 4_000_000


def _refuse(message: str) -> None:
    raise EngineProtocolError(
        what="the chat template refused the messages", why=message[:200], fix="check the order of roles"
    )


class ChatTemplate:
    """A compiled template."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, autoescape=False, undefined=jinja2.ChainableUndefined
        )
        environment.globals["raise_exception"] = _refuse
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise EngineLoadError(
                what="the chat template does not compile", why=type(error).__name__, fix="choose another version"
            ) from error
        self._bos = bos
        self._eos = eos

    def segments(self, messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
        """Return the prompt as (text, is_ours) in order; only our text may hold control tokens.

        Raises:
            EngineProtocolError: The template refuses the messages or loses one.
        """
        mark = secrets.token_hex(8)
        contents = [str(message.get("content") or "") for message in messages]
        marked = [
            {"role": message.get("role"), "content": f"{mark}-{at}-{mark}" if contents[at] else ""}
            for at, message in enumerate(messages)
        ]
        try:
            rendered = self._template.render(
                messages=marked, add_generation_prompt=True, bos_token=self._bos, eos_token=self._eos
            )
        except (jinja2.TemplateError, TypeError, ValueError, OverflowError) as error:
            raise EngineProtocolError(
                what="the chat template failed", why=type(error).__name__, fix="check the messages"
            ) from error
        if len(rendered) > MAX_RENDERED_CHARACTERS:
            raise EngineProtocolError(what="the rendered prompt is too long", why="template", fix="send less")
        return _split(rendered, mark, contents)

    def tokens(self, messages: Sequence[Mapping[str, Any]], tokenize: Callable[[str, bool], list[int]]) -> list[int]:
        """Return the prompt's tokens; `tokenize` takes (text, special)."""
        found: list[int] = []
        for text, is_ours in self.segments(messages):
            found.extend(tokenize(text, is_ours))
        return found


def _split(rendered: str, mark: str, contents: Sequence[str]) -> list[tuple[str, bool]]:
    segments: list[tuple[str, bool]] = []
    rest = rendered
    for at, content in enumerate(contents):
        if not content:
            continue
        before, found, rest_after = rest.partition(f"{mark}-{at}-{mark}")
        if not found:
            raise EngineProtocolError(
                what="the chat template dropped a message", why=f"message {at}", fix="choose another version"
            )
        if before:
            segments.append((before, True))
        segments.append((content, False))
        rest = rest_after
    if rest:
        segments.append((rest, True))
    return segments
