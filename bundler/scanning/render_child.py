"""Compute the digest of a chat template's rendering by the code that travels. Stand-alone: run in a sandbox.

Arguments: our own wheel (or a checkout), and the template. Prints one JSON line: `sha256`, or `why` there is none.
"""

import importlib
import json
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Render, and return 0 where it was told either way."""
    code, template = arguments
    sys.path.insert(0, code)
    serving = importlib.import_module("appliance.serve.chat_template")
    rendering = importlib.import_module("appliance.serve.rendering")
    try:
        compiled = serving.ChatTemplate(Path(template).read_bytes().decode())
        told = {"sha256": rendering.rendered_sha256(compiled)}
    except Exception as error:  # noqa: BLE001 - whatever a stranger's template makes Jinja raise
        told = {"why": f"{getattr(error, 'what', type(error).__name__)}"[:200]}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
