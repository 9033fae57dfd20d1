"""SGLang's own server on a Unix socket, which it does not offer itself: the module that a profile names.

SGLang hands its application to uvicorn with a port; here uvicorn is told a socket in place of it. All else is SGLang's
own: its arguments follow as they are. Its first question to itself, which goes to that port, is left out: whoever
starts an attached engine asks it before it counts as ready.
"""

import argparse
import importlib
from pathlib import Path
from typing import Any, Final

_PORTS: Final = ("host", "port")


def main() -> None:
    """Serve on a socket until this process is ended."""
    parser = argparse.ArgumentParser(prog="appliance.serve.attached_sglangserver", allow_abbrev=False)
    parser.add_argument("--socket", type=Path, required=True)
    asked, rest = parser.parse_known_args()
    listen_on(asked.socket)
    server_args = importlib.import_module("sglang.srt.server_args")
    serving = importlib.import_module("sglang.launch_server")
    serving.run_server(server_args.prepare_server_args([*rest, "--skip-server-warmup"]))


def listen_on(socket: Path) -> None:
    """Let every application that this process hands to uvicorn listen on a socket, and on nothing else.

    Its name is what decides who may reach it: the folder it lies in belongs to the launcher alone.
    """
    uvicorn: Any = importlib.import_module("uvicorn")  # it is in the engine's own environment alone
    published = uvicorn.run

    def run(app: object, **settings: object) -> None:
        """Do as uvicorn's own, without the port."""
        published(app, uds=str(socket), **{name: value for name, value in settings.items() if name not in _PORTS})

    uvicorn.run = run


if __name__ == "__main__":
    main()
