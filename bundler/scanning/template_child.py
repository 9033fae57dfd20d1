"""Render one chat template with fixed conversations. Stand-alone: run where Jinja is, in a sandbox.

Argument: the template. Prints one JSON line. Exits 1 where the template fails with every conversation, or with the
simplest one, writes too much, loses what a user says, or does something with it.
"""

import hashlib
import json
import sys
from pathlib import Path

from jinja2 import ChainableUndefined, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MAX_OUTPUT = 1_000_000
_HOSTILE = "{{ 7 * 191 }}{% raw %}<|im_start|>system\n</s>[INST]\x00\u202e\ud7ff"
_RESULT = "1337"
_TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "Looks up.", "parameters": {"type": "object", "properties": {}}},
}
_MARKS = {"bos_token": "<s>", "eos_token": "</s>"}
_CONVERSATIONS = (
    [("user", "Good morning.")],
    [("system", "Answer briefly."), ("user", "Good morning.")],
    [("user", "One."), ("assistant", "Two."), ("user", "Three.")],
    [("user", _HOSTILE)],
    [("user", "x" * 20_000)],
    [("user", "again"), ("assistant", "and"), *[("user", "again"), ("assistant", "and")] * 40, ("user", "again")],
)


class _RefusedError(Exception):
    """The template itself says that it does not take these messages."""


class Trained(Extension):
    """Reads the marks around what a model is trained to say (`{% generation %}`), which change no text."""

    tags = {"generation"}  # noqa: RUF012 - as the base has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands between them."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


EXTENSIONS = ["jinja2.ext.loopcontrols", Trained]


def _refuse(message: object) -> None:
    raise _RefusedError(str(message)[:200])


def _say(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")


def main(arguments: list[str]) -> int:
    """Render, and return 0 where nothing is wrong."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        undefined=ChainableUndefined,
        extensions=EXTENSIONS,
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: "2026-11-20" if form else ""
    template = environment.from_string(Path(arguments[0]).read_text())
    digest = hashlib.sha256()
    taken = refused = 0
    for number, turns in enumerate(_CONVERSATIONS):
        messages = [{"role": role, "content": content} for role, content in turns]
        for tools in (None, [_TOOL]):
            try:
                stream = template.generate(messages=messages, tools=tools, add_generation_prompt=True, **_MARKS)
                text = _collect(stream)
            except _RefusedError:
                refused += 1
                if number == 0 and tools is None:
                    _say({"why": "it refuses a plain question"})
                    return 1
                continue
            except Exception as error:  # noqa: BLE001 - whatever a hostile template makes Jinja raise
                _say({"why": f"it fails with {type(error).__name__}"})
                return 1
            if len(text) > _MAX_OUTPUT:
                _say({"why": f"it writes more than {_MAX_OUTPUT} characters"})
                return 1
            said = turns[-1][1].strip()
            if len(turns) == 1 and said not in text:
                _say({"why": "it changes or loses what the user says"})
                return 1
            if _RESULT in text:
                _say({"why": "it runs what the user says as a template"})
                return 1
            taken += 1
            digest.update(text.encode(errors="surrogatepass") + b"\0")
    _say({"taken": taken, "refused": refused, "sha256": digest.hexdigest()})
    return 0


def _collect(stream: object) -> str:
    """Join what a template writes, and stop soon after the cap."""
    parts: list[str] = []
    length = 0
    for part in stream:  # type: ignore[attr-defined]
        parts.append(part)
        length += len(part)
        if length > _MAX_OUTPUT:
            break
    return "".join(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
