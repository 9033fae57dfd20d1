"""What OpenAI's API and Ollama's call otherwise, so that a refusal names what its caller wrote."""

import re
from typing import Final

OPTIONS: Final = {
    **{name: name for name in ("frequency_penalty", "min_p", "presence_penalty", "seed", "stop", "temperature")},
    **{name: name for name in ("top_k", "top_p")},
    "num_predict": "max_tokens",
    "repeat_penalty": "repetition_penalty",
}
"""Ollama's options that are honoured, and OpenAI's or vLLM's word for each."""
_OPTIONS_OF: Final = {words: f"options.{name}" for name, words in OPTIONS.items()}
_OTHERS: Final = {"response_format": "format", "chat_template_kwargs": "think"}
_BEHIND: Final = re.compile(r"[.\[].*", re.DOTALL)


def own_name(param: str, *, is_chat: bool, has_system: bool = False) -> str:
    """Return how a caller of Ollama's routes calls a parameter that the reader names in OpenAI's words.

    Args:
        param: A parameter, or a place in one.
        is_chat: Whether the caller wrote messages, or a prompt that was made one.
        has_system: Whether it wrote `system`, too, which is the first message then.
    """
    head = _BEHIND.sub("", param)
    if head == "messages" and not is_chat:
        return "system" if has_system and param.startswith("messages[0]") else "prompt"
    return _OPTIONS_OF.get(head) or _OTHERS.get(head, param)
