"""Chat templates of the promoted profile, rendered so that a user's text can never become a control token.

The template is rendered with a mark in place of what each message says, within its white space, which templates may
strip. The text between marks is ours and may hold control tokens; what replaces a mark is tokenized as plain text
(llama.cpp's ``parse_special`` off). Of a message the template sees role and content only. What else templates ask for
is as in the library that they are written for (Hugging Face's transformers): the texts of the tokens that begin and
end a sequence, the day, loops that are left.

Rules:
    TMPL-1 A prompt's tokens are those of its whole text, as the model was trained with them, where these have no other
           control tokens than our parts have by themselves; else, and where nobody knows which tokens these are, each
           part is taken apart by itself.
    TMPL-2 A template that leaves out what a model thought aloud in earlier answers sees where that ends, if the tags
           are no control tokens of this model.
    TMPL-3 Where a template takes no system message, its text comes before the first user's, with an empty line between.
    TMPL-4 Where a model that thinks aloud is to do it, the prompt ends within a thought; where it is not to, behind an
           empty one, or as the template's own switch has it (`enable_thinking`, `thinking`).
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.errors import EngineLoadError, EngineProtocolError
from appliance.serve.engine import Tokenizer
from appliance.serve.thoughts import CLOSING, OPENING, SWITCHES, TAGS, are_text
from media.clock import Clock

MAX_RENDERED_CHARACTERS: Final = 4_000_000
# What a template may make of messages; a site's own are approved, and yet people write them.
_FAILURES: Final = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)
_TAGS: Final = re.compile(f"({'|'.join(TAGS)})")
_SYSTEM: Final = {"role": "system", "content": "Answer briefly."}
_USER: Final = {"role": "user", "content": "Good morning."}


class TemplateRefusedError(EngineProtocolError):
    """The template itself says that it does not take these messages; `why` is its own word, of nobody's content."""


def _refuse(message: object) -> None:
    raise TemplateRefusedError(
        what="the chat template refused the messages", why=str(message)[:200], fix="check the order of roles"
    )


class _Trained(Extension):
    """Reads the marks around what a model is trained to say (`{% generation %}`), which change no text."""

    tags = {"generation"}  # noqa: RUF012 - as the base has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands between them."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A conversation's tokens; `is_thinking` where they end within a thought, so that the answer begins in one."""

    tokens: list[int]
    is_thinking: bool


class ChatTemplate:
    """A compiled template.

    Args:
        source: Its text.
        bos: What begins a sequence, as the template may write it.
        eos: What ends one.
        clock: Who knows the day. Without it the template is told of none, and renders the same text each day.

    Raises:
        EngineLoadError: It does not compile.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "", clock: Clock | None = None) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            undefined=jinja2.ChainableUndefined,
            extensions=["jinja2.ext.loopcontrols", _Trained],
        )
        environment.globals["raise_exception"] = _refuse
        if clock is not None:
            environment.globals["strftime_now"] = lambda form: clock.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise EngineLoadError(
                what="the chat template does not compile", why=type(error).__name__, fix="choose another version"
            ) from error
        self._bos = bos
        self._eos = eos
        self._reads_thoughts = CLOSING in source
        self._switches = set(SWITCHES) & meta.find_undeclared_variables(environment.parse(source))
        self.thinks = OPENING in source or CLOSING in source
        """Whether the template knows of thoughts, as those of models that think aloud do."""
        self.opens_thought = self._takes(_USER) and _is_open(_ending(self._rendered([_USER])))
        """Whether it begins a thought by itself, so that the model always thinks."""
        self._takes_system = self._takes(_USER) <= self._takes(_SYSTEM, _USER)

    def segments(
        self, messages: Sequence[Mapping[str, Any]], *, tagged: bool = False, thinks: bool | None = None
    ) -> list[tuple[str, bool]]:
        """Return the prompt as (text, is_ours) in order; only our text may hold control tokens.

        Args:
            messages: Of whom, and what they say.
            tagged: Whether the template may see the tags around what the assistant thought; they are our text then.
            thinks: Whether the model is to think first, or not to (TMPL-4); None leaves it to the template.

        Raises:
            TemplateRefusedError: The template refuses the messages.
            EngineProtocolError: It fails, or loses one.
        """
        if not self._takes_system:
            messages = _without_system(messages)
        segments = self._rendered(messages, tagged=tagged, thinks=thinks)
        if thinks is not None and self.thinks:
            ending = _ending(segments)
            segments[-1 if ending else len(segments) :] = [(self._turned(ending, thinks=thinks), True)]
        return [one for one in segments if one[0]]

    def _turned(self, ending: str, *, thinks: bool) -> str:
        """Return a prompt's end behind which something is thought, or nothing (TMPL-4)."""
        if _is_open(ending):
            return ending if thinks else f"{ending.rstrip()}\n\n{CLOSING}\n\n"
        if thinks:
            return f"{ending}{OPENING}\n"
        is_closed = bool(self._switches) or ending.rstrip().endswith(CLOSING)
        return ending if is_closed else f"{ending}{OPENING}\n\n{CLOSING}\n\n"

    def _takes(self, *messages: Mapping[str, Any]) -> bool:
        """Tell whether the template renders messages and loses none."""
        try:
            self._rendered(messages)
        except EngineProtocolError:
            return False
        return True

    def _rendered(
        self, messages: Sequence[Mapping[str, Any]], *, tagged: bool = False, thinks: bool | None = None
    ) -> list[tuple[str, bool]]:
        said = _Said(secrets.token_hex(8))
        marked = [{"role": message.get("role"), "content": said.marked(message, tagged=tagged)} for message in messages]
        switched = {} if thinks is None else dict.fromkeys(self._switches, thinks)
        try:
            rendered = self._template.render(
                messages=marked, add_generation_prompt=True, bos_token=self._bos, eos_token=self._eos, **switched
            )
        except _FAILURES as error:
            raise EngineProtocolError(
                what="the chat template failed", why=type(error).__name__, fix="check the messages"
            ) from error
        if len(rendered) > MAX_RENDERED_CHARACTERS:
            raise EngineProtocolError(what="the rendered prompt is too long", why="template", fix="send less")
        return said.put_into(rendered)

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, *, thinks: bool | None = None
    ) -> Prompt:
        """Return the prompt (TMPL-1); `thinks` as in `segments`.

        Raises:
            EngineProtocolError: As `segments`.
        """
        segments = self.segments(messages, tagged=self._may_see_tags(messages, tokenizer), thinks=thinks)
        return Prompt(tokens=_tokens(segments, tokenizer), is_thinking=_is_open(_ending(segments)))

    def tokens(self, messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> list[int]:
        """Return the tokens of a prompt.

        Raises:
            EngineProtocolError: As `segments`.
        """
        return self.prompt(messages, tokenizer).tokens

    def _may_see_tags(self, messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> bool:
        if not self._reads_thoughts or not any(CLOSING in str(message.get("content")) for message in messages):
            return False
        return are_text(tokenizer)


def _tokens(segments: Sequence[tuple[str, bool]], tokenizer: Tokenizer) -> list[int]:
    if tokenizer.knows_names:
        ours = [tokenizer.tokenize(text, special=True) for text, is_ours in segments if is_ours]
        whole = tokenizer.tokenize("".join(text for text, _ in segments), special=True)
        if list(filter(tokenizer.is_named, whole)) == list(filter(tokenizer.is_named, chain(*ours))):
            return whole
    return [token for text, is_ours in segments for token in tokenizer.tokenize(text, special=is_ours)]


def _ending(segments: Sequence[tuple[str, bool]]) -> str:
    """Return our text at the end of a prompt."""
    return segments[-1][0] if segments and segments[-1][1] else ""


def _is_open(ending: str) -> bool:
    return ending.rstrip().endswith(OPENING)


def _without_system(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return messages whose first one of the system is part of the user's that follows it (TMPL-3)."""
    roles = [message.get("role") for message in messages[:2]]
    if roles != ["system", "user"]:
        return messages
    texts = [str(message.get("content") or "") for message in messages[:2]]
    return [{**messages[1], "content": "\n\n".join(text for text in texts if text)}, *messages[2:]]


class _Said:
    """What messages say, each piece behind a mark that nobody can guess."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._pieces: list[str] = []
        self._needed: set[int] = set()

    def marked(self, message: Mapping[str, Any], *, tagged: bool) -> str:
        """Return what a template sees of a message: marks with the white space, and the tags, around them."""
        content = str(message.get("content") or "")
        parts = _TAGS.split(content) if tagged and message.get("role") == "assistant" else [content]
        found = [part if part in TAGS and tagged else self._marked(part) for part in parts]
        if parts[-1].strip():  # of what was only thought, a template may leave all out
            self._needed.add(len(self._pieces) - 1)
        return "".join(found)

    def _marked(self, part: str) -> str:
        piece = part.strip()
        if not piece:
            return part
        self._pieces.append(piece)
        return part.replace(piece, f"{self._mark}-{len(self._pieces) - 1}-{self._mark}", 1)

    def put_into(self, rendered: str) -> list[tuple[str, bool]]:
        """Return the parts of a rendered prompt; a template may put messages in another order, or say one twice."""
        segments: list[tuple[str, bool]] = []
        at, missing = 0, set(self._needed)
        for found in re.finditer(f"{self._mark}-([0-9]+)-{self._mark}", rendered):
            segments += [(rendered[at : found.start()], True)] if found.start() > at else []
            segments.append((self._pieces[int(found[1])], False))
            at = found.end()
            missing.discard(int(found[1]))
        if missing:
            raise EngineProtocolError(
                what="the chat template dropped a message", why="not all of them are told", fix="choose another version"
            )
        return [*segments, (rendered[at:], True)] if at < len(rendered) else segments
