"""Configuration that makes a library fetch or import code: `auto_map`, `trust_remote_code` and their kin, anywhere."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from media.canonical import loads
from media.errors import MediaError

_KEYS: Final = {
    "auto_map": "names code that a library would fetch and run",
    "trust_remote_code": "tells a library to run code from the model's folder",
    "custom_pipelines": "names code of a pipeline that a library would import",
    "custom_generate": "names code of generation that a library would fetch and run",
    "code_revision": "pins code that a library would fetch and run",
    "custom_code": "names code that a library would run",
    "_module_name": "names a module that a library would import",
}
_HARMLESS: Final[tuple[Any, ...]] = (None, False)
_SUFFIXES: Final = frozenset({
    ".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".js", ".ipynb", ".jar", ".ps1", ".bat", ".exe", ".pth",
    ".lua", ".wasm", ".cu", ".ptx", ".cubin",
})  # fmt: skip
_MAX_JSON: Final = 256 * 2**20


def is_code(name: str) -> bool:
    """Whether a file's name is that of code."""
    return PurePosixPath(name).suffix.lower() in _SUFFIXES


def orders(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (key, why) for each key of a JSON file that makes a library run code, however it is spelled.

    Raises:
        MediaError: The file is not strict JSON: two readers could see two things in it.
    """
    pending: list[Any] = [loads(data, max_bytes=_MAX_JSON, allow_floats=True)]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                folded = key.strip().casefold()
                if folded in _KEYS and inner not in _HARMLESS:
                    yield folded, _KEYS[folded]
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def malformed(data: bytes) -> str:
    """Return why a JSON file is not strict JSON; empty where it is."""
    try:
        loads(data, max_bytes=_MAX_JSON, allow_floats=True)
    except MediaError as error:
        return f"{error.what}: {error.why}"
    return ""
