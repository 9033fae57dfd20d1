"""The blank form: one page to fill in beside a machine that may not run a program of ours or write to a medium."""

import textwrap
from datetime import datetime
from typing import Final

from bundler.pdf import Sheet
from bundler.probe.questions import FLAGS, FORM_TITLE, QUESTIONS

_INTRODUCTION: Final = (
    "Fill in one form for each kind of machine. Every answer is a kind or a version that the command or file beside it "
    "shows; write it exactly so. Leave empty what you cannot find out. Write no names of people, hosts or networks, "
    "and no serial numbers: nothing else on this form is asked, and nothing else may leave the facility on it."
)
_BACK: Final = "On the connected side: sealift-bundler probe enter -o probe.json"


def as_text() -> str:
    """Return the form as a text file that is filled in with an editor and read by `probe enter FILE`."""
    lines = [f"# {FORM_TITLE}", "#"]
    lines += [f"# {line}" for line in textwrap.wrap(_INTRODUCTION, 100)]
    lines += ["#", "# On the connected side: sealift-bundler probe enter THIS-FILE -o probe.json", ""]
    for question in QUESTIONS:
        needed = "; must be known" if question.is_required else ""
        lines.append(f"# {question.asked}. Read it from: {question.where}{needed}. Such as: {question.example}")
        if question.key == "cpu_flags":
            lines += [f"#   {line}" for line in textwrap.wrap(" ".join(FLAGS), 100)]
        lines += [f"{question.key}: ", ""]
    return "\n".join(lines)


def as_pdf(*, at: datetime) -> bytes:
    """Return the form as a PDF to fill in with a pen.

    Args:
        at: Written into the file as its date.
    """
    sheet = Sheet(FORM_TITLE, at=at)
    sheet.text(_INTRODUCTION)
    sheet.gap()
    for question in QUESTIONS:
        mark = " *" if question.is_required else ""
        if question.key == "cpu_flags":
            sheet.heading(f"{question.key}: {question.asked}")
            sheet.mono(question.where)
            for start in range(0, len(FLAGS), 4):
                sheet.mono("".join(f"[  ] {flag:<16}" for flag in FLAGS[start : start + 4]))
            continue
        sheet.facts([(f"{question.key}{mark}", ""), ("", f"{question.asked} ({question.where})")], width=40)
    sheet.gap()
    sheet.text("* must be known. Installed packages are not asked for: without them the whole closure travels.")
    sheet.text(_BACK)
    sheet.lines(["Filled in on", "Read over by a second person on"])
    return sheet.to_bytes()
