import pytest

from bundler.scanning import sandbox, templates
from bundler.scanning.templates import Rendered

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML


def dangers(source: str) -> list[str]:
    return list(templates.dangers(source.encode()))


def outcome(source: str) -> Rendered | str:
    return templates.render(source.encode())


def test_a_plain_template_takes_every_conversation_and_gives_the_same_digest_each_time() -> None:
    assert dangers(CHATML) == []
    first = outcome(CHATML)

    assert isinstance(first, Rendered)
    assert (first.conversations, first.refused) == (12, 0)
    assert outcome(CHATML) == first


def test_what_engines_take_besides_is_taken() -> None:
    trained = CHATML.replace("{% endfor %}", "{% generation %} {% endgeneration %}{% endfor %}")
    loops = "{% for n in range(9) %}{% if n %}{% break %}{% endif %}{{ strftime_now('%Y') }}{% endfor %}" + CHATML

    for source in (trained, loops):
        assert source != CHATML
        assert dangers(source) == []
        found = outcome(source)
        assert isinstance(found, Rendered)
        assert (found.conversations, found.refused) == (12, 0)


def test_a_template_may_refuse_a_system_message_but_not_a_plain_question() -> None:
    found = outcome(STRICT)

    assert isinstance(found, Rendered)
    assert found.refused == 2
    assert outcome("{{ raise_exception('never') }}") == "it refuses a plain question"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        # CVE-2024-34359: llama-cpp-python rendered templates of model files without a sandbox.
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "reaches for __globals__"),
        ("{% for c in ().__class__.__base__.__subclasses__() %}{% endfor %}", "reaches for __subclasses__"),
        ("{{ ''['__class__'] }}", "spells a name of Python's internals"),
        ("{{ x|attr('a') }}", "uses the filter attr"),
        ("{{ lipsum }}", "reaches for lipsum"),
        ("{{ self._TemplateReference__context }}", "reaches for self"),
        ("{{ messages._private }}", "reaches for _private"),
        ("{% include 'x' %}", "loads another template"),
        ("{% extends 'x' %}", "loads another template"),
        ("{% import 'x' as y %}", "loads another template"),
        ("{% from 'x' import y %}", "loads another template"),
        ("{% for x in %}", "does not parse"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "does not parse|nested too deeply"),
    ],
)
def test_what_no_chat_needs_is_found_before_the_template_runs(source: str, why: str) -> None:
    found = "; ".join(dangers(source))

    assert any(part in found for part in why.split("|")), found[:300]


def test_a_template_of_too_many_parts_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "_MAX_NODES", 100)

    assert dangers("{{ 1 }}" * 100) == ["it has more than 100 parts"]


def test_bytes_that_are_no_text_are_refused() -> None:
    assert list(templates.dangers(b"\xff\xfe")) == ["it is not UTF-8"]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ range(10**9)|list }}", "it fails with OverflowError"),
        ("{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "it writes more than"),
        ("{{ 'x' * 10**10 }}", "it fails with MemoryError"),
        ("{{ messages.append(1) }}", "it fails with SecurityError"),
        ("{{ ('_' * 2 ~ 'class' ~ '_' * 2) and ''[('_' * 2) ~ 'class' ~ ('_' * 2)]['mro'] }}", "it changes or loses"),
        ("{{ messages[0].content.upper() }}", "it changes or loses what the user says"),
        ("{{ messages[0].content.replace('{', '(') }}", "it changes or loses what the user says"),
        ("nothing of it", "it changes or loses what the user says"),
        ("{{ unknown_function() }}", "it fails with UndefinedError"),
        ("{{ messages[0].content }}{{ 7 * 191 }}", "it runs what the user says as a template"),
    ],
)
def test_a_template_that_misbehaves_in_the_sandbox_may_not_travel(source: str, why: str) -> None:
    found = outcome(source)

    assert isinstance(found, str)
    assert why in found


@pytest.mark.slow  # processes of their own, a second and more each
def test_a_template_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "_LIMITS", sandbox.Limits(memory=2**30, seconds=10, cpu_seconds=1))
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

    assert outcome(endless) == "it is still busy after 1 seconds"


def test_a_template_above_the_cap_is_not_rendered() -> None:
    assert templates.render(b"x" * (templates.MAX_BYTES + 1)) == f"it has {2**18 + 1} bytes; the limit is {2**18}"
