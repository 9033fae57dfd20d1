"""llama.cpp's own server as `attached_xllamacpp` starts it, but that each place has a part of the context to itself."""

import importlib
from typing import Any

from appliance.serve import attached_xllamacpp


def main() -> None:
    """Serve until this process is ended."""
    library: Any = importlib.import_module("xllamacpp")  # it is in the engine's own environment alone
    server = library.Server

    def apart(params: Any) -> Any:
        params.kv_unified = False
        return server(params)

    library.Server = apart
    attached_xllamacpp.main()


if __name__ == "__main__":
    main()
