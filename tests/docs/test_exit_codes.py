"""One exit code, one meaning, and every one of them in the operator's table."""

import importlib
import re
from pathlib import Path

from media.errors import BrokenOffError, SealiftError

TABLE = Path(__file__).resolve().parents[2] / "docs/exit-codes.md"
ROW = re.compile(r"^\| (\d+) \| `([a-z-]+)` \|", re.MULTILINE)
SYSEXITS = range(64, 79)


def every_error() -> list[type[SealiftError]]:
    """Import all error modules and return every class with a code of its own."""
    for package in ("media", "bundler", "appliance"):
        importlib.import_module(f"{package}.errors")
    found: list[type[SealiftError]] = []
    waiting = [SealiftError]
    while waiting:
        kind = waiting.pop()
        if "exit_code" in vars(kind) and kind.__module__.endswith(".errors"):
            found.append(kind)
        waiting.extend(kind.__subclasses__())
    return found


def test_codes_and_numbers_are_unique() -> None:
    errors = every_error()

    assert len({kind.exit_code for kind in errors}) == len(errors)
    assert len({kind.code for kind in errors}) == len(errors)


def test_numbers_stay_out_of_the_ranges_of_others() -> None:
    others = [kind for kind in every_error() if kind is not BrokenOffError]  # which is what shells have for it
    assert all(kind.exit_code < 126 and kind.exit_code not in SYSEXITS for kind in others)


def test_the_table_names_exactly_the_errors_that_exist() -> None:
    documented = {(int(number), code) for number, code in ROW.findall(TABLE.read_text())}

    assert documented == {(kind.exit_code, kind.code) for kind in every_error()} | {(0, "done")}


def test_every_error_class_says_what_it_means() -> None:
    assert all(kind.__doc__ for kind in every_error())


def test_walking_finds_errors_of_all_three_packages() -> None:
    names = {kind.__module__ for kind in every_error()}

    assert names == {"media.errors", "bundler.errors", "appliance.errors"}
