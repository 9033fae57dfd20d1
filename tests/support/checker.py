"""The stand-alone checker, as a process as people run it, and as a module where thousands of runs are needed."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

CHECKER = Path(__file__).resolve().parents[2] / "bundler" / "check" / "verify.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stand_alone_checker", CHECKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(CHECKER), *map(str, words)], capture_output=True, text=True, check=False, timeout=100
    )


def ending(checker: ModuleType, *words: object) -> int:
    """Return the exit status of a run in this process, a malformed list as the file itself answers it."""
    try:
        return int(checker.COMMANDS[words[0]]([str(word) for word in words[1:]]))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return 10
