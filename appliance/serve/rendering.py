"""The digest that pins what a chat template makes of a fixed conversation (docs/format.md, PIN-3).

One code for both sides: a build computes it with this module out of the wheel that travels, a site with the one that
runs, so that a template that renders otherwise is seen whatever changed: the template, the renderer, or Jinja.
"""

from hashlib import sha256
from typing import Final

from appliance.serve.chat_template import ChatTemplate

CONVERSATION: Final = (
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": "What is written on the label?"},
    {"role": "assistant", "content": "The name and the date."},
    {"role": "user", "content": "Und das Datum — è il 7?"},
)
"""What is rendered; another conversation would be another name among the pins."""


def rendered_sha256(template: ChatTemplate) -> str:
    """Return the digest of the conversation, rendered with the turn of the assistant opened.

    Raises:
        EngineProtocolError: The template refuses the conversation or loses a message.
    """
    return sha256("".join(text for text, _ in template.segments(CONVERSATION)).encode()).hexdigest()
