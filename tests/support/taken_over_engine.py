"""The real launcher, scheduler and HTTP of an engine over a decoder that a prompt can take over.

Run as a program: ``python taken_over_engine.py --config FILE --instance STAGE-DIGEST12``. What a prompt says is done in
the engine's process: ``fork``, ``exec``, ``socket`` and ``thread`` answer with what came of it, ``hang`` never ends,
``eat`` takes memory until there is none; ``inside`` forks in the decoder's thread, and ``told`` tells what came of it.
"""

import os
import socket
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from appliance.serve import launcher
from appliance.serve.engine import Row
from tests.support.decoder import EchoDecoder


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _in_thread() -> None:
    thread = threading.Thread(target=threading.current_thread)
    thread.start()
    thread.join()


def _eat() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 20) * 16))


_DEEDS: Mapping[str, Callable[[], Any]] = {
    "fork": _fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606 - the deed itself
    "socket": lambda: socket.socket(socket.AF_UNIX),
    "thread": _in_thread,
    "eat": _eat,
}


def _outcome(deed: Callable[[], Any]) -> str:
    try:
        deed()
    except OSError as error:
        return "refused" if isinstance(error, PermissionError) else "failed"
    return "done"


class TakenOver(EchoDecoder):
    """Does what it is told."""

    inside = "nothing"

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        if text in _DEEDS:
            text = _outcome(_DEEDS[text])
        return super().tokenize(self.inside if text == "told" else text, special=special)

    def decode(self, rows: Sequence[Row]) -> bool:
        is_done = super().decode(rows)
        said = "".join(chr(row.token) for row in rows)
        if said.startswith("hang"):
            threading.Event().wait()
        if said.startswith("inside"):
            self.inside = _outcome(_fork)
        return is_done


def main() -> None:
    """Run the launcher with that decoder in llama.cpp's place."""
    library = types.ModuleType("appliance.serve.llama_cpp")
    library.LlamaCppDecoder = lambda _path, **_: TakenOver(batch_tokens=64)  # type: ignore[attr-defined]
    sys.modules[library.__name__] = library
    launcher.main()


if __name__ == "__main__":
    main()
