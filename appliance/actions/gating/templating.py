"""The gate of template and tokenizer: what a conversation becomes before the model sees it.

* The template renders what callers send: one turn, several turns, a system message, with the turn of the assistant
  opened. The digest of a fixed conversation, rendered, is the one that the release pins.
* The tokenizer is that of the weights before they were quantized: its digest is the one that the release pins.
* What the template itself writes that looks like a control token is one of this model's vocabulary; a template of
  another family is found so.
* No text of a user becomes a control token: a message that spells every one of them has as many as a plain one.

A release that pins nothing says so in the figures; the rest is looked at all the same.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from appliance.actions.gating.bench import Bench, Verdict, user
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.rendering import CONVERSATION, rendered_sha256
from media import gguf_vocabulary
from media.gguf_vocabulary import Vocabulary

_MAX_TEMPLATE: Final = 256 * 1024
_PLAIN: Final = "The weather is fine today."
_MOST_SPELLED: Final = 64
# As families of templates write them: ChatML and Llama 3, Llama 2, Gemma, DeepSeek. What is text to some of them
# ([INST] of Llama 2) is not looked for.
_LOOKS_LIKE_CONTROL: Final = re.compile(
    "<\\|[A-Za-z0-9_.:-]{1,40}\\|>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos)>|<\uff5c[^<>\uff5c]{1,40}\uff5c>"
)


def template(bench: Bench) -> Verdict:
    """Judge template and tokenizer; see the module."""
    source = bench.stored.read(bench.descriptor.template_path, max_bytes=_MAX_TEMPLATE).decode(errors="replace")
    # The pin is one of the template alone.
    found = {"rendered_sha256": rendered_sha256(ChatTemplate(source))}
    vocabulary = _vocabulary(bench)
    start, end = ("", "") if vocabulary is None else (vocabulary.start, vocabulary.end)
    compiled = ChatTemplate(source, bos=start, eos=end)
    ours = "".join(text for text, is_ours in compiled.segments(user(_PLAIN)) if is_ours)
    ours += "".join(text for text, is_ours in compiled.segments(CONVERSATION) if is_ours)
    figures: dict[str, Any] = {**found, "pinned": sorted(bench.pins)}
    failures = []
    if vocabulary is not None:
        found["tokenizer_sha256"] = vocabulary.sha256
        figures |= {"tokenizer_sha256": vocabulary.sha256, "control_tokens": len(vocabulary.control)}
        failures += _strange(ours, vocabulary)
        failures += _spelled(bench, vocabulary, figures)
    for name, pinned in sorted(bench.pins.items()):
        if name in found and found[name] != pinned:
            failures.append(f"{name} is {found[name][:12]}, and the release pins {pinned[:12]}")
    return Verdict(gate="template", passed=not failures, figures=figures, why="; ".join(failures))


def _vocabulary(bench: Bench) -> Vocabulary | None:
    weights = bench.descriptor.gguf
    if weights is None:
        return None
    return gguf_vocabulary.read(Path(bench.stored.path_of(weights.path)))


def _strange(ours: str, vocabulary: Vocabulary) -> list[str]:
    known = {*vocabulary.control.values(), *vocabulary.defined.values()}
    if not known:
        return []
    strange = sorted(set(_LOOKS_LIKE_CONTROL.findall(ours)) - known)
    return [f"the template writes {strange[0]}, which is no token of this model"] if strange else []


def _spelled(bench: Bench, vocabulary: Vocabulary, figures: dict[str, Any]) -> list[str]:
    """Ask the engine for the tokens of a message that spells control tokens, and count those that became one."""
    control = vocabulary.control
    if not control:
        return []
    texts = sorted(control.values(), key=lambda text: (not text.startswith("<"), text))[:_MOST_SPELLED]
    plain = _control_in(bench, _PLAIN, control)
    hostile = _control_in(bench, f"{_PLAIN} {' '.join(texts)}", control)
    figures |= {"spelled": len(texts), "became_control": sum((hostile - plain).values())}
    return ["text of a user became control tokens"] if hostile != plain else []


def _control_in(bench: Bench, text: str, control: Mapping[int, str]) -> Counter[int]:
    return Counter(token for token in bench.engine.token_ids(user(text)) if token in control)
