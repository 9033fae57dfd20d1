"""What a model is by its own files: of which architecture, how many weights, how wide. Told to callers, never judged.

A fact that the files do not say, or say in a form that is none of these, is left out.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from media import canonical, gguf
from media.errors import MediaError

CONFIG: Final = "config.json"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST: Final = 2**53  # what every reader of JSON holds exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """What is known of a model.

    Attributes:
        architecture: Its family, as the files name it (`llama`, `qwen2`); empty where that is not known.
        parameters: The weights in all tensors; 0 where that is not known.
        embedding_length: How many numbers a state has; 0 where that is not known.
    """

    architecture: str = ""
    parameters: int = 0
    embedding_length: int = 0

    @property
    def size(self) -> str:
        """The number of weights as people say it, in Ollama's form (`134.52M`, `8.0B`); empty where it is not known."""
        if self.parameters >= 10**9:
            return f"{self.parameters / 10**9:.1f}B"
        if self.parameters >= 10**6:
            return f"{self.parameters / 10**6:.2f}M"
        return f"{self.parameters / 10**3:.0f}K" if self.parameters >= 10**3 else str(self.parameters or "")

    def to_json(self) -> dict[str, Any]:
        """Return what is known."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Return what `to_json` gave; whatever has another shape is not known."""
        if not isinstance(untrusted, Mapping):
            return cls()
        name = untrusted.get("architecture")
        return cls(
            architecture=name if isinstance(name, str) and _NAME.fullmatch(name) else "",
            parameters=_count(untrusted.get("parameters")),
            embedding_length=_count(untrusted.get("embedding_length")),
        )


UNTOLD: Final = Anatomy()


def of_gguf(path: Path) -> Anatomy:
    """Return what a GGUF file's header says."""
    with suppress(MediaError):
        header = gguf.read(path)
        said = {"parameters": header.parameters, "embedding_length": header.embedding_length}
        return Anatomy.from_json({"architecture": header.architecture, **said})
    return UNTOLD


def of_config(text: str) -> Anatomy:
    """Return what a `config.json` says, as models beside safetensors have it; how many weights they are it does not."""
    with suppress(MediaError):
        said = canonical.loads(text.encode(), allow_floats=True)
        if isinstance(said, Mapping):
            told = {"architecture": said.get("model_type"), "embedding_length": said.get("hidden_size")}
            return Anatomy.from_json(told)
    return UNTOLD


def _count(untrusted: Any) -> int:
    return untrusted if type(untrusted) is int and 0 < untrusted <= _MOST else 0
