"""What vLLM's processes write: everything until callers can come, then no word of theirs, and always why one ended."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from appliance.serve.vllm_door import FACTS
from appliance.serve.vllm_log import CONFIGURATION, Quiet

MARKED = "cormorant-4711"
HERE = Path(__file__).parents[4]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    monkeypatch.setenv(FACTS, str(tmp_path / "facts.json"))
    (tmp_path / "opened").touch()
    handler = Quiet()

    def of(name: str, text: str, *args: object, error: BaseException | None = None) -> str:
        info = None if error is None else (type(error), error, error.__traceback__)
        return handler.format(logging.LogRecord(name, logging.ERROR, "f.py", 7, text, args, info))

    yield of
    logging.captureWarnings(capture=False)


def raised(module: str, error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Return an error that a function of a module raised."""
    made = ModuleType(module)
    exec("def step(error, cause):\n    raise error from cause", made.__dict__)  # noqa: S102
    try:
        made.step(error, cause)
    except type(error) as found:
        return found
    raise AssertionError


def test_until_callers_can_come_everything_is_written(written: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "opened").unlink()
    why = raised("vllm.entrypoints.x", ValueError("no room for the cache"))

    told = written("vllm.entrypoints.x", "it did not start: %s", "short of memory", error=why)

    assert "it did not start: short of memory" in told
    assert "ValueError: no room for the cache" in told


def test_why_an_engine_ended_is_written_and_the_way_there(written: Callable[..., str]) -> None:
    out = raised("vllm.v1.worker.gpu", RuntimeError("CUDA error: out of memory"))

    told = written("vllm.v1.engine.core", "EngineCore encountered a fatal error.", error=out)

    assert "EngineCore encountered a fatal error." in told
    assert "builtins.RuntimeError: CUDA error: out of memory" in told
    assert "vllm.v1.worker.gpu:2 step" in told


@pytest.mark.parametrize(
    ("logger", "module"),
    [
        ("uvicorn.error", "vllm.entrypoints.openai.serving"),
        ("asyncio", "vllm.v1.engine.async_llm"),
        ("vllm.entrypoints.openai.chat_completion.serving", "vllm.v1.engine.core"),
        ("vllm.tool_parsers.hermes_tool_parser", "json.decoder"),
        ("vllm.v1.structured_output", "xgrammar.compiler"),
        ("vllm.v1.engine.core", "vllm.v1.structured_output.backend_xgrammar"),
        ("vllm.v1.engine.core_client", "vllm.v1.engine.core"),
        ("py.warnings", "pydantic.main"),
    ],
)
def test_where_callers_words_are_read_an_error_has_its_kind_and_its_way_alone(
    written: Callable[..., str], logger: str, module: str
) -> None:
    inner = raised(module, ValueError(f"{MARKED} is no number"))
    outer = raised("vllm.v1.engine.core", RuntimeError(f"it failed: {MARKED}"), inner)

    told = written(logger, "no line %s", MARKED, error=outer)

    assert MARKED not in told
    assert f"{module}:2 step" in told
    assert ("builtins.ValueError" in told, "builtins.RuntimeError" in told) == (True, True)


def test_of_what_hands_out_steps_the_words_stay_and_texts_are_left_out(written: Callable[..., str]) -> None:
    told = written("vllm.v1.core.sched.scheduler", "grammar rejected tokens %s for request %s, %d left", [7], MARKED, 3)

    assert told.endswith("grammar rejected tokens (…) for request (…), 3 left")
    assert MARKED not in written("vllm.v1.engine.core", "%d of %d", MARKED, 1)
    assert MARKED not in written("vllm.tool_parsers.xlam", f"Error in calls: {MARKED}")


def test_where_nobody_says_whether_callers_come_none_is_quoted(
    written: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another node of a cluster no door stands."""
    monkeypatch.delenv(FACTS)

    assert MARKED not in written("vllm.entrypoints.x", "asked for %s", MARKED)


def test_every_library_writes_by_it_and_what_was_asked_is_never_dumped(tmp_path: Path) -> None:
    program = f"""
import json, logging.config, sys, warnings
logging.config.dictConfig(json.loads(open({str(CONFIGURATION)!r}).read()))
for name in ("vllm.v1.engine.core", "vllm.logging_utils.dump_input", "uvicorn.error", "uvicorn.access", "other"):
    logging.getLogger(name).error("%s, %d", "{MARKED}", 4)
    logging.getLogger(name).info("below {MARKED}")
warnings.warn("{MARKED}")
"""
    facts = tmp_path / "facts.json"
    told = {}
    for opened in (False, True):
        if opened:
            (tmp_path / "opened").touch()
        told[opened] = subprocess.run(
            [sys.executable, "-c", program],
            env={FACTS: str(facts)},
            cwd=HERE,
            capture_output=True,
            text=True,
            check=True,
        ).stderr

    assert "below" not in told[False] + told[True]
    assert "dump_input" not in told[False] + told[True]
    assert told[False].count(MARKED) == 5
    assert MARKED not in told[True]
    assert told[True].count("\n") == 5
    assert "(…), 4" in told[True]


def test_the_configuration_is_what_vllm_reads() -> None:
    told = json.loads(CONFIGURATION.read_bytes())

    assert told["version"] == 1
    assert told["root"] == {"level": "WARNING", "handlers": ["quiet"]}
    assert "formatters" not in told
