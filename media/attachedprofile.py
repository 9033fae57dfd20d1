"""How an attached engine is run: another's server that speaks OpenAI's HTTP, behind our launcher.

Either a program of the engine's own environment, which came in the release's wheels and is named with its digest (or a
module that this environment's interpreter runs); or, for trying one out in the test stage, a socket that somebody else
listens on, which the site file names. Only the first is content-addressed: nobody can say what answers at the second.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, Self, get_args

from media import canonical

Dialect = Literal["llama-server", "openai", "openai-text", "sglang"]
DIALECTS: Final[tuple[Dialect, ...]] = get_args(Dialect)
"""Whose words beside OpenAI's it understands: counting tokens, a shape for the answer, what it keeps of a prompt,
how likely a text is."""
TOKENIZER: Final = "tokenizer.json"
"""What a version brings whose tokens the launcher counts itself."""
SOCKET, MODEL = "{socket}", "{model}"
PLACEHOLDERS: Final = (SOCKET, MODEL, "{n_ctx}", "{n_batch}", "{n_seq_max}", "{threads}")
MOST_ARGUMENTS: Final = 100
_MOST_CHARACTERS: Final = 200
_PROGRAM: Final = re.compile(r"(?!.*(^|/)\.\.?(/|$))[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,198}[A-Za-z0-9_]")
_MODULE: Final = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*){0,9}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_BRACED: Final = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedSettings:
    """What only an attached engine asks for.

    Attributes:
        program: A file of the engine's environment, relative to its folder, e.g. ``bin/llama-server``; else empty.
        program_sha256: Its digest; the launcher runs these very bytes or nothing.
        module: A module that the environment's interpreter runs in its place; else empty.
        arguments: What it is given; `PLACEHOLDERS` in them are filled in by the launcher.
        dialect: Whose words beside OpenAI's it understands.
        needs_gpu: Whether it answers on GPUs alone, so that no machine without one can try it.
    """

    program: str = ""
    program_sha256: str = ""
    module: str = ""
    arguments: tuple[str, ...] = ()
    dialect: Dialect = "llama-server"
    needs_gpu: bool = False

    @property
    def is_content_addressed(self) -> bool:
        """Whether the release brings what answers, so that its digest says what that is."""
        return bool(self.program or self.module)

    @property
    def is_counted_here(self) -> bool:
        """Whether the launcher counts tokens itself: the peer has no way to leave control tokens out of a text."""
        return self.dialect != "llama-server"

    def to_json(self) -> dict[str, Any]:
        """Return the table as a descriptor has it."""
        return {**{field.name: getattr(self, field.name) for field in fields(self)}, "arguments": list(self.arguments)}

    @classmethod
    def from_json(cls, untrusted: Any, what: str) -> Self:
        """Read what a descriptor says; what contradicts is `faults`'s to judge.

        Raises:
            MalformedError: It has other fields, or of other types.
        """
        said: Mapping[str, Any] = canonical.exact_keys(
            canonical.mapping(untrusted, what), tuple(field.name for field in fields(cls)), what=what
        )
        arguments = canonical.array(said["arguments"], f"{what}.arguments", most=MOST_ARGUMENTS)
        return cls(
            program=canonical.text(said["program"], f"{what}.program", may_be_empty=True, most=_MOST_CHARACTERS),
            program_sha256=canonical.text(said["program_sha256"], f"{what}.program_sha256", may_be_empty=True, most=64),
            module=canonical.text(said["module"], f"{what}.module", may_be_empty=True, most=_MOST_CHARACTERS),
            arguments=tuple(canonical.text(one, f"{what}.arguments", most=_MOST_CHARACTERS) for one in arguments),
            dialect=canonical.one_of(said["dialect"], DIALECTS, f"{what}.dialect"),
            needs_gpu=canonical.boolean(said["needs_gpu"], f"{what}.needs_gpu"),
        )

    def filled(self, values: Mapping[str, str]) -> list[str]:
        """Return the arguments with each placeholder's value in its place; `values` has all of `PLACEHOLDERS`."""
        return [_BRACED.sub(lambda found: values[found[0]], one) for one in self.arguments]


def faults(settings: AttachedSettings) -> Iterator[str]:
    """Yield what is malformed or contradicts another field, each with what is allowed."""
    if settings.program and settings.module:
        yield "it names a program and a module; an engine is one of them"
    if settings.program and not _PROGRAM.fullmatch(settings.program):
        yield "program is a path below the environment's folder, such as bin/llama-server"
    if settings.module and not _MODULE.fullmatch(settings.module):
        yield "module is the dotted name of a Python module"
    if bool(settings.program) != bool(_DIGEST.fullmatch(settings.program_sha256)) or (
        settings.program_sha256 and not settings.program
    ):
        yield "program_sha256 is the SHA-256 of the program in 64 small hexadecimal digits, and goes with it alone"
    if len(settings.arguments) > MOST_ARGUMENTS:
        yield f"arguments are at most {MOST_ARGUMENTS}"
    braced = [found for one in settings.arguments for found in _BRACED.findall(one)]
    if unknown := sorted({found for found in braced if found not in PLACEHOLDERS}):
        yield f"arguments hold {unknown[0][:40]}; known are {', '.join(PLACEHOLDERS)}"
    if not settings.is_content_addressed and settings.arguments:
        yield "arguments are for a program or a module; it names neither"
    if settings.is_content_addressed and not {SOCKET, MODEL} <= set(braced):
        yield f"arguments hold {SOCKET} and {MODEL}: where it listens, and what it opens"
