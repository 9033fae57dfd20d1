"""Patterns of what must not leave by accident: credentials, patient data, and paths of the build machine.

Each pattern asks for the shape of a real secret, not for a word about secrets, because third-party code is full of the
latter: a private key needs its encoded body, a token its full length. A finding names the rule and the line, never the
text that was found.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_SECRETS: Final[tuple[tuple[str, bytes, re.Pattern[bytes]], ...]] = (
    # (what it is, a literal that must occur for the expression to be tried, the expression)
    ("private key", b"PRIVATE KEY-----", re.compile(
        # An Ed25519 key is one line; in JSON and in code the ends of lines are written \n.
        rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----(?:\s|\\[nr])+(?:[A-Za-z-]+: [^\n]*\n)*\s*"
        rb"(?:[A-Za-z0-9+/=]{40,}(?![A-Za-z0-9+/=])|(?:[A-Za-z0-9+/=]{16,}(?:\s|\\[nr])+){2,})")),
    ("OpenPGP private key", b"PGP PRIVATE KEY BLOCK", re.compile(
        rb"-----BEGIN PGP PRIVATE KEY BLOCK-----\s+(?:[A-Za-z]+: [^\n]*\n)*\s*(?:[A-Za-z0-9+/=]{16,}\s+){2,}")),
    ("AWS access key", b"AKIA", re.compile(rb"(?<![A-Z0-9])AKIA[0-9A-Z]{16}(?![A-Z0-9])")),
    ("AWS temporary key", b"ASIA", re.compile(rb"(?<![A-Z0-9])ASIA[0-9A-Z]{16}(?![A-Z0-9])")),
    ("Hugging Face token", b"hf_", re.compile(rb"(?<![A-Za-z0-9_])hf_[A-Za-z0-9]{34,}(?![A-Za-z0-9_])")),
    ("GitHub token", b"gh", re.compile(rb"(?<![A-Za-z0-9_])gh[pousr]_[A-Za-z0-9]{36,}(?![A-Za-z0-9_])")),
    ("GitHub token", b"github_pat_", re.compile(rb"github_pat_[A-Za-z0-9_]{60,}")),
    ("Slack token", b"xox", re.compile(rb"(?<![A-Za-z0-9])xox[abpr]-[0-9A-Za-z-]{20,}")),
    ("PyPI token", b"pypi-", re.compile(rb"(?<![A-Za-z0-9])pypi-AgE[A-Za-z0-9_-]{50,}")),
    ("NVIDIA token", b"nvapi-", re.compile(rb"(?<![A-Za-z0-9])nvapi-[A-Za-z0-9_-]{40,}")),
    ("OpenAI key", b"sk-", re.compile(rb"(?<![A-Za-z0-9])sk-(?:proj-)?[A-Za-z0-9]{40,}(?![A-Za-z0-9])")),
    ("Sealift API key", b"sl-", re.compile(rb"(?<![A-Za-z0-9])sl-[A-Za-z2-7]{10}-[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")),
    ("netrc password", b"machine", re.compile(rb"(?m)^\s*machine\s+\S+\s+login\s+\S+\s+password\s+\S+")),
)  # fmt: skip
_ASSIGNED: Final = re.compile(
    rb"(?i)(?:secret|token|passw(?:or)?d|api[_-]?key)[\"']?\s*[:=]\s*[\"']?([A-Za-z0-9+/=_-]{20,128})"
)
_URL_PASSWORD: Final = re.compile(rb"[a-z][a-z0-9+.-]{1,20}://[A-Za-z0-9._-]{1,64}:[^\s@/'\"{}<>$%]{8,64}@[a-z0-9]")
_ENTROPY: Final = 4.2  # bits a character; random base64 of 32 characters has about 4.6, words and paths below 4
# Root's own home only with a hidden folder: printed instructions for a bare machine name it plainly.
_HOME: Final = re.compile(
    rb"(?<![A-Za-z0-9_.])/(?:home/[a-z][a-z0-9_.-]{0,31}/|root/\.|Users/[A-Za-z][A-Za-z0-9_.-]{0,31}/)"
)
_PATIENT: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = (
    ("social security number", re.compile(
        rb"(?<![0-9-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9-])")),
    ("medical record number", re.compile(
        rb"(?i)\b(?:MRN|medical record (?:number|no\.?))\s*[:#]?\s*[A-Z]{0,3}[0-9]{5,12}\b")),
    ("date of birth", re.compile(
        rb"(?i)\b(?:DOB|date of birth)\s*[:#]?\s*[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}")),
    ("e-mail address", re.compile(
        rb"(?<![A-Za-z0-9])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z]{2,24})+")),
    ("telephone number", re.compile(
        rb"(?<![0-9-])(?:\+1[ .-])?\(?[2-9][0-9]{2}\)?[ .-][2-9][0-9]{2}[ .-][0-9]{4}(?![0-9-])")),
)  # fmt: skip
# Whole records, in the shapes that clinical systems exchange; no text about such systems has them.
_CLINICAL: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = (
    ("HL7 version 2 message", re.compile(rb"(?:^|[\r\n\x0b\"])MSH\|\^~\\{1,2}&\|")),
    ("HL7 patient segment", re.compile(rb"(?:^|[\r\n\"])PID\|[0-9]{0,4}\|[^\r\n|]*\|[^\r\n|]{2,}\|")),
    ("FHIR patient resource", re.compile(rb'\\?"resourceType\\?"\s*:\s*\\?"(?:Patient|RelatedPerson|Encounter)\\?"')),
    ("clinical document (CDA)", re.compile(rb"<(?:[A-Za-z0-9]+:)?ClinicalDocument[\s>]")),
    ("X12 health care claim", re.compile(rb"(?:^|[\r\n])ISA\*00\*.{80,120}?[\r\n~]?GS\*H[CPBR]\*", re.DOTALL)),
    ("DICOM image", re.compile(rb"\A.{128}DICM", re.DOTALL)),
    ("social security number by name", re.compile(
        rb"(?i)\b(?:SSN|social security(?: number| no\.?)?)\s*[:#=]?\s*"
        rb"(?!000|666|9)[0-9]{3}-?(?!00)[0-9]{2}-?(?!0000)[0-9]{4}\b")),
    ("medical record number", _PATIENT[1][1]),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One place that looks like what must not travel."""

    rule: str
    what: str
    line: int


def secrets(data: bytes) -> Iterator[Leak]:
    """Yield credentials of well-known shapes. For any text, ours or not."""
    for what, literal, pattern in _SECRETS:
        if literal in data:
            for match in pattern.finditer(data):
                # The documented example of AWS, which manuals and tests repeat.
                if not match[0].endswith(b"EXAMPLE"):
                    yield Leak(rule="secret", what=what, line=_line(data, match.start()))


def assigned_secrets(data: bytes) -> Iterator[Leak]:
    """Yield random-looking values of a secret's name, and URLs with a password. For files that are ours to word."""
    for match in _ASSIGNED.finditer(data):
        if _entropy(match[1]) >= _ENTROPY:
            yield Leak(rule="secret", what="random value of a secret's name", line=_line(data, match.start()))
    for match in _URL_PASSWORD.finditer(data):
        yield Leak(rule="secret", what="password in a URL", line=_line(data, match.start()))


def build_paths(data: bytes) -> Iterator[Leak]:
    """Yield home folders of the machine that made the file. For our own files."""
    for match in _HOME.finditer(data):
        yield Leak(rule="build-path", what="path in a home folder", line=_line(data, match.start()))


def patient_data(data: bytes) -> Iterator[Leak]:
    """Yield what looks like a person's identifier. For prompts, rules and task sets."""
    for what, pattern in _PATIENT:
        for match in pattern.finditer(data):
            yield Leak(rule="patient-data", what=what, line=_line(data, match.start()))


def clinical(data: bytes) -> Iterator[Leak]:
    """Yield what looks like a record of a clinical system. For every text beside weights, task sets among them."""
    for what, pattern in _CLINICAL:
        for match in pattern.finditer(data):
            yield Leak(rule="patient-data", what=what, line=_line(data, match.start()))


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _entropy(text: bytes) -> float:
    counts = Counter(text)
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())
