"""What vLLM's processes write: all of it until callers can come, and from then on no word that may be theirs.

vLLM loads this by name, from the configuration of logging beside this file (`CONFIGURATION`), in each of its processes.
Its own log begins at warnings, and yet: of a step that fails it writes all that was asked of it (stop texts, schemas),
and what is refused or read in vain is quoted in errors' messages and in the lines of whoever caught them.

Rules:
    LOG-1 Until the door opens no caller was heard, so everything is written: why vLLM does not start is in it.
    LOG-2 From then on a line has its place in the program, and of an error its kind and the way that it took. Words it
          has only from what computes and hands out steps; there numbers are kept and texts are left out.
    LOG-3 Why an engine ended is never lost: an error's own message is written where the one who tells it is what hands
          out or computes steps, and nothing on its way reads what callers wrote.
"""

import logging
import traceback
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Final

from appliance.serve.vllm_door import opened

CONFIGURATION: Final = Path(__file__).with_suffix(".json")
"""What `VLLM_LOGGING_CONFIG_PATH` names: a file of the environment, so that nodes of a cluster have it, too."""
_DUMPS: Final = "vllm.logging_utils.dump_input"
_COMPUTES: Final = ("vllm.v1.", "vllm.distributed.")
_TELLS_THE_END: Final = ("vllm.v1.engine.core.", "vllm.v1.executor.", "vllm.v1.worker.", "vllm.distributed.")
_READS_WORDS: Final = frozenset(
    {"xgrammar", "llguidance", "outlines", "outlines_core", "lmformatterenforcer", "pydantic", "jinja2", "transformers"}
)
_READS_WORDS_OF_VLLM: Final = "vllm.v1.structured_output"
_MOST_ERRORS: Final = 8
_LEFT_OUT: Final = "(…)"


class _Unsaid:
    """Stands for a text in a line."""

    def __repr__(self) -> str:
        return _LEFT_OUT


class Quiet(logging.StreamHandler):  # type: ignore[type-arg] # of stderr, whatever that is at the time
    """Writes lines to the standard error as LOG-1 to LOG-3 have it; Python's own warnings, too."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(asctime)s [%(name)s:%(lineno)d] %(message)s"))
        logging.captureWarnings(capture=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless all that it has is what was asked."""
        if record.name != _DUMPS:
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return what is written of a line."""
        return "\n".join(_harmless(record)) if opened() else super().format(record)


def _harmless(record: logging.LogRecord) -> Iterator[str]:
    yield f"{record.levelname} [{record.name}:{record.lineno}] {_words(record)}"
    if record.exc_info and record.exc_info[1] is not None:
        yield from _errors(record.exc_info[1], in_words=f"{record.name}.".startswith(_TELLS_THE_END))


def _words(record: logging.LogRecord) -> str:
    """Return a line's words without the texts in it; none of those who read what callers wrote."""
    if not record.name.startswith(_COMPUTES) or record.name.startswith(_READS_WORDS_OF_VLLM):
        return _LEFT_OUT
    args = record.args if isinstance(record.args, tuple) else ()
    try:
        return str(record.msg) % tuple(one if isinstance(one, int | float) else _Unsaid() for one in args)
    except (TypeError, ValueError):
        return str(record.msg)


def _errors(error: BaseException, *, in_words: bool) -> Iterator[str]:
    """Yield kind, way and, if wanted and harmless, words of an error and of those that it came of."""
    chain = [(one, list(traceback.walk_tb(one.__traceback__))) for one in islice(_behind(error), _MOST_ERRORS)]
    # An error that came of another may repeat its words.
    in_words = in_words and not any(_reads_words(_module(frame)) for _, way in chain for frame, _ in way)
    for one, way in chain:
        yield f"{type(one).__module__}.{type(one).__qualname__}: {one if in_words else _LEFT_OUT}"
        for frame, line in way:
            yield f"  {_module(frame)}:{line} {frame.f_code.co_name}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reads_words(module: str) -> bool:
    return module.partition(".")[0] in _READS_WORDS or module.startswith(_READS_WORDS_OF_VLLM)
