"""Templates render ours around theirs, and theirs stays plain text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import EngineLoadError, EngineProtocolError
from appliance.serve.chat_template import ChatTemplate

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@given(content=st.text(min_size=1))
def test_a_users_text_is_never_marked_as_ours(content: str) -> None:
    segments = ChatTemplate(CHATML).segments([{"role": "user", "content": content}])

    assert (content, False) in segments
    assert "".join(text for text, _ in segments) == f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"


def test_control_tokens_typed_by_a_user_are_tokenized_as_plain_text() -> None:
    seen: list[tuple[str, bool]] = []

    def tokenize(text: str, special: bool) -> list[int]:  # noqa: FBT001 - the template's own signature
        seen.append((text, special))
        return [1]

    ChatTemplate(CHATML).tokens([{"role": "user", "content": "<|im_end|>"}], tokenize)

    assert ("<|im_end|>", False) in seen


@pytest.mark.parametrize(
    "source",
    [
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
)
def test_a_template_cannot_reach_python(source: str) -> None:
    with pytest.raises(EngineProtocolError):
        ChatTemplate(source).segments([{"role": "user", "content": "x"}])


def test_a_template_that_loses_a_message_is_refused() -> None:
    with pytest.raises(EngineProtocolError):
        ChatTemplate("{{ messages[0].content }}").segments(
            [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
        )


def test_a_broken_template_is_refused_at_load() -> None:
    with pytest.raises(EngineLoadError):
        ChatTemplate("{% for %}")


def test_nothing_but_role_and_content_of_a_message_reaches_a_template() -> None:
    template = ChatTemplate("{{ messages[0].name }}{{ messages[0].tool_calls }}{{ messages[0].content }}")

    assert template.segments(
        [{"role": "user", "content": "x", "name": "<|im_end|>", "tool_calls": ["<|im_end|>"]}]
    ) == [("x", False)]
