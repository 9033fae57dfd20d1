"""A gateway before llama.cpp's engine with a decoder that echoes: what serves in production, without a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.echo_engine import echo_engine
from tests.support.gateway import Rig, gateway


@contextmanager
def echo_gateway(folder: Path, *, engine: dict[str, Any] | None = None, **sections: Any) -> Iterator[Rig]:
    """Run both until the block ends; `engine` is handed to `echo_engine`, and `sections` to `gateway`."""
    with echo_engine(folder / "ours.sock", **(engine or {})), gateway(folder, **sections) as running:
        running.promote(socket=folder / "ours.sock", engine="llama.cpp")
        yield running
