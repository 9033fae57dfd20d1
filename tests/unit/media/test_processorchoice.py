"""Which of llama.cpp's libraries is used: by a stand-in for the interpreter that tells of each, or is killed by it."""

import operator
import sys
from pathlib import Path

import pytest

from media import processorchoice, processortrial
from media.processorchoice import Fitting

BEST, NEXT, LEAST = (f"libggml-cpu-{name}.so" for name in ("sapphirerapids", "zen4", "x64"))


def environment(folder: Path, ends: dict[str, str], *, libraries: tuple[str, ...] = (BEST, NEXT, LEAST)) -> list[Path]:
    """Lay down libraries and an interpreter; `ends` says of a library whether it is `killed`, `wrong` or `hangs`."""
    packages = folder / "site-packages"
    (packages / "bin").mkdir(parents=True)
    for name in libraries:
        (packages / "bin" / name).touch()
    python = folder / "python"
    python.write_text(
        f"#!{sys.executable}\n"
        "import os, signal, sys, time\n"
        "flag, command, program, libraries, own, *without = sys.argv[1:]\n"
        "assert (flag, command) == ('-I', '-c') and 'ggml_mul_mat' in program, sys.argv\n"
        "assert own.endswith('llama_cpp/lib'), own\n"
        f"for name in {[BEST, NEXT, LEAST]!r}:\n"
        "    if name in without: continue\n"
        "    print('tries', name, flush=True)\n"
        f"    end = {ends!r}.get(name)\n"
        "    if end == 'killed': os.kill(os.getpid(), signal.SIGILL)\n"
        "    if end == 'hangs': time.sleep(600)\n"
        "    if end == 'fails': sys.exit(1)\n"
        "    if end is None: sys.exit(print('fits', name))\n"
        "sys.exit(3)\n"
    )
    python.chmod(0o755)
    return [python, packages]


def test_the_best_library_is_taken_where_it_computes(tmp_path: Path) -> None:
    assert processorchoice.fitting(*environment(tmp_path, {})) == Fitting(library=BEST)


@pytest.mark.parametrize("end", ["killed", "wrong"])
def test_one_that_ends_the_trial_or_computes_something_else_is_left_out(tmp_path: Path, end: str) -> None:
    found = processorchoice.fitting(*environment(tmp_path, {BEST: end, NEXT: "killed"}))

    assert found == Fitting(library=LEAST, unfit=(BEST, NEXT))


def test_one_that_does_not_come_back_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processorchoice, "_SECONDS", 1)

    found = processorchoice.fitting(*environment(tmp_path, {BEST: "hangs"}))

    assert found == Fitting(library=NEXT, unfit=(BEST,))


@pytest.mark.parametrize("end", ["killed", "wrong"])
def test_where_none_computes_all_are_named_and_none_is_taken(tmp_path: Path, end: str) -> None:
    found = processorchoice.fitting(*environment(tmp_path, dict.fromkeys((BEST, NEXT, LEAST), end)))

    assert found == Fitting(unfit=(BEST, NEXT, LEAST))


def test_where_the_trial_itself_fails_nothing_is_said_of_a_library(tmp_path: Path) -> None:
    assert processorchoice.fitting(*environment(tmp_path, {BEST: "killed", NEXT: "fails"})) == Fitting()


def test_the_trial_sees_nothing_of_this_process_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    python, packages = environment(tmp_path, {})
    python.write_text(
        python.read_text().replace("import os,", "import os; assert 'HF_TOKEN' not in os.environ; import")
    )

    assert processorchoice.fitting(python, packages).library == BEST


@pytest.mark.parametrize("columns", [1, 33])
def test_only_products_of_like_waves_are_something(columns: int) -> None:
    waves = processortrial.waves(64)
    rows = [waves[at * 256 : (at + 1) * 256] for at in range(64)]
    right = [sum(map(operator.mul, rows[column], row)) for column in range(columns) for row in rows]
    swapped = [right[64 * (at // 64) + (at % 64 ^ 1)] for at in range(64 * columns)]

    assert processortrial.is_product(right, columns)
    assert not processortrial.is_product(swapped, columns)
    assert not processortrial.is_product([0.0] * len(right), columns)
    assert not processortrial.is_product([-one for one in right], columns)


def test_a_wheel_with_one_library_alone_is_not_tried(tmp_path: Path) -> None:
    assert processorchoice.fitting(*environment(tmp_path, {}, libraries=("libggml-cpu.so",))) == Fitting()


@pytest.mark.parametrize("python", ["/bin/true", "/nowhere/python"], ids=["says nothing", "is not there"])
def test_an_interpreter_that_tells_nothing_ends_the_search(tmp_path: Path, python: str) -> None:
    _, packages = environment(tmp_path, {})

    assert processorchoice.fitting(Path(python), packages) == Fitting()
