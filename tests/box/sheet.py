"""Reads the commands off a printed trust sheet, as the two people at the console would type them."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetCommands:
    """What the sheet says to type: the preparation, the checks with what must come out, the beginning."""

    prepare: str
    checks: tuple[tuple[str, str], ...]
    begin: str


def commands_of(sheet: str) -> SheetCommands:
    """Return the commands of the sheet's section on a first installation."""
    section = sheet.split("First installation")[1]
    prepare = section[section.index("\nMEDIUM=") + 1 : section.index("\nCheck the copy.")].strip()
    steps = re.findall(r"^([0-9]+)\. ([^\n]+)\n((?:   [^\n]*\n?)*)", section, re.MULTILINE)
    numbered = [(command, " ".join(told.split())) for number, command, told in steps if number != "0"]
    return SheetCommands(prepare=prepare, checks=tuple(numbered[:-1]), begin=numbered[-1][0])


def holds(printed: str, expected: str) -> bool:
    """Judge a command's output as the sheet tells a person to."""
    if expected.startswith("prints: "):
        return printed.strip() == expected.removeprefix("prints: ")
    fingerprint = re.search(r"ends in ([0-9A-F]{40})", expected)
    lines = [line for line in printed.splitlines() if line.startswith("[GNUPG:] ")]
    kinds = [line.split()[1] for line in lines]
    refused = {"BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NO_PUBKEY"} & set(kinds)
    valid = [line for line in lines if line.split()[1] == "VALIDSIG"]
    return (
        fingerprint is not None
        and kinds.count("GOODSIG") == 1
        and len(valid) == 1
        and valid[0].endswith(fingerprint[1])
        and not refused
    )
