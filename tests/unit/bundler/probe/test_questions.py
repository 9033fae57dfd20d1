import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from bundler.errors import ProbeError
from bundler.probe import form
from bundler.probe.facts import Gpu, Probe
from bundler.probe.questions import FLAGS, QUESTIONS, parse_form, probe_of

ANSWERS = {question.key: question.example for question in QUESTIONS}


def filled(**answers: str) -> str:
    lines = []
    for line in form.as_text().splitlines():
        key = line.removesuffix(": ")
        lines.append(f"{key}: {answers[key]}" if key in answers else line)
    return "\n".join(lines)


def test_the_filled_form_gives_the_probe_that_the_program_would_write() -> None:
    found = probe_of(parse_form(filled(**ANSWERS)))

    assert Probe.from_bytes(found.to_bytes()) == found
    assert found.cpu_flags == ("avx2", "f16c", "fma")
    assert found.gpus == (Gpu(name="NVIDIA L40S", pci="10de:26b9", count=2, memory_mib=46068),)
    assert found.packages is None


def test_what_is_not_known_stays_empty() -> None:
    found = probe_of({"architecture": "x86_64", "cores": "2", "memory_mib": "4000", "glibc": "2.36", "gpu_name": "-"})

    assert (found.gpus, found.driver, found.python, found.cpu_flags) == ((), "", "", ())


def test_one_gpu_is_meant_where_only_its_name_is_given() -> None:
    assert probe_of({**ANSWERS, "gpu_count": "", "gpu_memory_mib": ""}).gpus[0].count == 1


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("glibc", ""),
        ("cores", "two"),
        ("memory_mib", "0"),
        ("glibc", "Debian GLIBC 2.36-9"),
        ("gpu_name", ""),
        ("codename", "book worm"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_by_name(key: str, answer: str) -> None:
    with pytest.raises(ProbeError) as caught:
        probe_of({**ANSWERS, "gpu_pci": "", key: answer})

    assert key.removeprefix("gpu_") in caught.value.what


@pytest.mark.parametrize("line", ["patient: John", "no answer at all", "cores: 1\ncores: 2"])
def test_a_line_that_is_none_of_the_forms_is_refused(line: str) -> None:
    with pytest.raises(ProbeError, match="of the form"):
        parse_form(line)


@given(st.text(max_size=300))
def test_any_text_is_a_filled_form_or_our_error(untrusted: str) -> None:
    with pytest.raises(ProbeError):
        probe_of(parse_form(untrusted))


@given(st.dictionaries(st.sampled_from(sorted(ANSWERS)), st.text(max_size=20)))
def test_any_answers_make_a_readable_probe_or_our_error(answers: dict[str, str]) -> None:
    try:
        found = probe_of({**ANSWERS, **answers})
    except ProbeError:
        return
    assert Probe.from_bytes(found.to_bytes()) == found


def test_the_printed_form_asks_every_question_on_one_page() -> None:
    pages = PdfReader(io.BytesIO(form.as_pdf(at=datetime(2026, 11, 20, tzinfo=UTC)))).pages
    text = pages[0].extract_text()

    assert len(pages) == 1
    for question in QUESTIONS:
        assert question.key in text
    for flag in FLAGS:
        assert flag in text
