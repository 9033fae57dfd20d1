"""The tables of docs/operator/units.md, made from the unit files; `python -m tests.support.unit_table` writes them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.unit_files import SYSTEMD, services, values
from tests.support.unit_gates import HARDENING, exposure

PAGE: Final = SYSTEMD.parent / "docs/operator/units.md"
BEGIN: Final = "<!-- made from systemd/ by `python -m tests.support.unit_table`; a test compares -->"
END: Final = "<!-- end -->"
_REASON: Final = re.compile(r"# No (\w+): (.+)")


def tables() -> str:
    """Return both tables: what holds each unit, and what each relaxes with the reason that its file gives."""
    held = [
        "| unit | user | network | memory | silence | in a shortage | exposure |",
        "|---|---|---|---|---|---|---|",
        *(_held(path) for path in services()),
    ]
    relaxed = ["| unit | setting | why |", "|---|---|---|"]
    for path in services():
        relaxed += [f"| {_name(path)} | {key} | {reason} |" for key, reason in relaxations(path.read_text())]
    return "\n".join(
        [*held, "", "What a unit relaxes of what the others hold, with the reason its file gives:", "", *relaxed]
    )


def relaxations(text: str) -> Iterator[tuple[str, str]]:
    """Yield each setting that a unit file relaxes, with its reason on one line."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        key, _, value = line.partition("=")
        if key in HARDENING and HARDENING[key] != value:
            yield f"{key}={value}", _comment(lines[:number])
        elif found := _REASON.fullmatch(line):
            yield f"no {found[1]}", " ".join([found[2], *_continued(lines[number + 1 :])])


def _comment(before: list[str]) -> str:
    told: list[str] = []
    for line in reversed(before):
        if not line.startswith("# ") or _REASON.fullmatch(line) or line.startswith("# Hardening."):
            break
        told.insert(0, line[2:])
    return " ".join(told)


def _continued(after: list[str]) -> Iterator[str]:
    for line in after:
        if not line.startswith("# ") or _REASON.fullmatch(line):
            return
        yield line[2:]


def _held(path: Path) -> str:
    def last(key: str, default: str) -> str:
        return (values(path, key) or [default])[-1]

    has_network = last("PrivateNetwork", "no") != "yes"
    silence = f"{last('WatchdogSec', '')} s" if values(path, "WatchdogSec") else "ends by itself"
    tenths = exposure(path).tenths
    cells = (
        _name(path),
        last("User", "root"),
        "the machine's" if has_network else "none",
        last("MemoryMax", "-"),
        silence,
        last("OOMScoreAdjust", "0"),
        f"{tenths / 10:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _name(path: Path) -> str:
    return path.name.removesuffix(".service")


def replaced(page: str) -> str:
    """Return the page with both tables made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text()))
