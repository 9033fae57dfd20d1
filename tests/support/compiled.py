"""Compiles what the workers of one run will import, before they start.

In a fresh checkout each worker would rewrite the asserts of the same thousand files for itself, at the same moment, so
that none finds what another has made: as much work again for each worker. The same holds of the constants of our
modules, of which Hypothesis makes examples.
"""

import compileall
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

# Neither has a public way to make what it keeps. Both are locked; where a newer one differs, mypy and each run say so.
from _pytest.assertion import AssertionState
from _pytest.assertion.rewrite import PYC_TAIL, _read_pyc, _rewrite_test, _write_pyc, get_cache_dir, try_makedirs
from hypothesis.internal.constants_ast import constants_from_module

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("appliance", "bench", "bundler", "examples", "media")


def compile_all(config: pytest.Config) -> None:
    """Compile the product and the tests that `config` is about to collect, but for what is compiled already.

    A file that cannot be compiled is left to whoever imports it, who says why.
    """
    if sys.dont_write_bytecode:
        return
    for package in PACKAGES:
        compileall.compile_dir(ROOT / package, quiet=2)
        for path in (ROOT / package).rglob("*.py"):
            _keep_constants(path)
    compileall.compile_dir(ROOT / "tests/support", quiet=2)
    asked = [Path(each.split("::")[0]).resolve() for each in config.args]
    ignored = [Path(each).resolve() for each in config.getoption("ignore", None) or ()]
    state = AssertionState(config, "rewrite")
    for path in _tests_below(asked, ignored):
        with suppress(OSError, SyntaxError, ValueError):
            _rewrite(path, config, state)


def _keep_constants(path: Path) -> None:
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    constants_from_module(module)


def _tests_below(asked: Iterable[Path], ignored: Iterable[Path]) -> Iterator[Path]:
    found = {path for each in asked for path in (each.rglob("*.py") if each.is_dir() else [each])}
    tests = (path for path in sorted(found) if path.name.startswith("test_") or path.name == "conftest.py")
    return (path for path in tests if not any(path.is_relative_to(each) for each in ignored))


def _rewrite(path: Path, config: pytest.Config, state: AssertionState) -> None:
    folder = get_cache_dir(path)
    kept = folder / f"{path.stem}{PYC_TAIL}"
    if _read_pyc(path, kept) is None and try_makedirs(folder):
        source_hash, code = _rewrite_test(path, config)
        _write_pyc(state, code, source_hash, kept)
