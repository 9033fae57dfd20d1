"""The same facts asked of a person: the questions of the blank form, and the reading of the answers.

An answer of `-` or nothing means that the person does not know. What the release cannot be made without must be known.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bundler.errors import ProbeError
from bundler.probe.facts import FORMAT, MOST_BYTES, PRODUCT, Probe
from media.canonical import dumps

FLAGS: Final = (
    "sse4_2", "ssse3", "popcnt", "avx", "avx2", "bmi2", "f16c", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512cd",
    "avx512dq", "avx512vl", "avx512vbmi", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16",
)  # fmt: skip
"""What wheels and weights depend on: the boxes of the form. A probe writes down all that the processor has."""

FORM_TITLE: Final = "Sealift target probe, form 1"
_LINE: Final = re.compile(r"([a-z_]{2,20}) *: *(.*)", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_UNKNOWN: Final = frozenset({"", "-", "none", "unknown"})
_FIX: Final = "correct the line; an unknown fact is left empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One fact to be read off a machine.

    Args:
        key: Names the line of the form.
        asked: The question.
        where: The command whose output has it, or the place to look.
        example: An answer as it is written.
        is_number: The answer is a whole number.
        is_required: Without it no release can be made.
    """

    key: str
    asked: str
    where: str
    example: str
    is_number: bool = False
    is_required: bool = False


QUESTIONS: Final = (
    Question(key="architecture", asked="Machine type", where="uname -m", example="x86_64", is_required=True),
    Question(key="cores", asked="Number of processors", where="nproc", example="16", is_number=True, is_required=True),
    Question(
        key="memory_mib",
        asked="Memory in MiB",
        where="free -m, line Mem, first number",
        example="64216",
        is_number=True,
        is_required=True,
    ),
    Question(
        key="cpu_flags",
        asked="Which of these does the processor have",
        where="grep -m1 -E 'flags|Features' /proc/cpuinfo",
        example="avx2 f16c fma",
    ),
    Question(
        key="glibc",
        asked="Version of the C library",
        where="getconf GNU_LIBC_VERSION",
        example="2.36",
        is_required=True,
    ),
    Question(key="distribution", asked="Distribution", where="/etc/os-release, line ID", example="debian"),
    Question(key="release", asked="Its release", where="/etc/os-release, line VERSION_ID", example="12"),
    Question(key="codename", asked="Its code name", where="/etc/os-release, VERSION_CODENAME", example="bookworm"),
    Question(key="kernel", asked="Kernel, first two numbers", where="uname -r", example="6.1"),
    Question(key="python", asked="Python, first two numbers", where="python3 -V", example="3.11"),
    Question(key="gpu_name", asked="GPU, as its driver calls it", where="nvidia-smi -L", example="NVIDIA L40S"),
    Question(key="gpu_pci", asked="GPU, the eight digits in brackets", where="lspci -nn", example="10de:26b9"),
    Question(key="gpu_count", asked="Number of GPUs of this kind", where="nvidia-smi -L", example="2", is_number=True),
    Question(
        key="gpu_memory_mib",
        asked="Memory of each GPU in MiB",
        where="nvidia-smi, after the slash",
        example="46068",
        is_number=True,
    ),
    Question(key="driver", asked="Version of the GPU driver", where="nvidia-smi, first line", example="570.86.15"),
    Question(key="cuda", asked="CUDA Version", where="nvidia-smi, first line", example="12.8"),
)
"""In the order of the form."""


def parse_form(untrusted: str) -> dict[str, str]:
    """Return the answers of a filled text form, by key.

    Raises:
        ProbeError: A line is none of the form's, or stands there twice.
    """
    if len(untrusted) > MOST_BYTES:
        raise ProbeError(what="the form is too large", why=f"the limit is {MOST_BYTES} characters", fix=_FIX)
    answers: dict[str, str] = {}
    known = {question.key for question in QUESTIONS}
    for number, line in enumerate(untrusted.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        found = _LINE.fullmatch(content)
        if found is None or found[1] not in known:
            raise ProbeError(what=f"line {number} of the form is no answer", why=ascii(content)[:80], fix=_FIX)
        if found[1] in answers:
            raise ProbeError(what=f"line {number} of the form answers {found[1]} again", why="", fix=_FIX)
        answers[found[1]] = found[2]
    return answers


def probe_of(answers: Mapping[str, str]) -> Probe:
    """Return the probe that a person's answers make; the same checks as for a file that a machine wrote.

    Raises:
        ProbeError: A required answer misses, or one is not of the form that its question shows.
    """
    given = {question.key: _answer(question, answers.get(question.key, "")) for question in QUESTIONS}
    gpu = {name: given.pop(f"gpu_{name}") for name in ("name", "pci", "count", "memory_mib")}
    if (gpu["count"] or gpu["memory_mib"]) and not (gpu["name"] or gpu["pci"]):
        raise _wrong("gpu_name", "there is a number of GPUs and no kind", "NVIDIA L40S")
    if (gpu["name"] or gpu["pci"]) and not gpu["count"]:
        gpu["count"] = 1
    value: dict[str, Any] = {
        **given,
        "format": FORMAT,
        "product": PRODUCT,
        "musl": "",
        "packages": None,
        "cpu_flags": sorted(set(str(given["cpu_flags"]).lower().replace(",", " ").split())),
        "gpus": [gpu] if gpu["count"] else [],
    }
    return Probe.from_bytes(dumps(value))


def _answer(question: Question, untrusted: str) -> str | int:
    text = untrusted.strip()
    if text.lower() in _UNKNOWN:
        if question.is_required:
            raise _wrong(question.key, "it is not answered", question.example)
        return 0 if question.is_number else ""
    if not question.is_number:
        return text
    if not _NUMBER.fullmatch(text):
        raise _wrong(question.key, f"{ascii(text)[:60]} is not a whole number", question.example)
    return int(text)


def _wrong(key: str, why: str, example: str) -> ProbeError:
    return ProbeError(what=f"the answer to {key} cannot be used", why=why, fix=f"answer like: {example}")
