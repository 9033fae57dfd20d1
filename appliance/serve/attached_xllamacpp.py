"""llama.cpp's own server from the wheel `xllamacpp`, which brings it as a library: the module that a profile names.

One more place than the profile has is made, and one cache for all: the launcher counts tokens and places itself.
"""

import argparse
import importlib
import threading
from pathlib import Path


def main() -> None:
    """Serve one GGUF file on a Unix socket until this process is ended."""
    parser = argparse.ArgumentParser(prog="appliance.serve.attached_xllamacpp")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    for name in ("--n-ctx", "--n-batch", "--n-seq-max", "--threads"):
        parser.add_argument(name, type=int, required=True)
    asked = parser.parse_args()
    xllamacpp = importlib.import_module("xllamacpp")  # it is in the engine's own environment alone
    params = xllamacpp.CommonParams()
    params.model.path = str(asked.model)
    params.hostnames = [str(asked.socket)]
    params.port = 0
    params.n_ctx = asked.n_ctx
    params.n_batch = params.n_ubatch = asked.n_batch
    params.n_parallel = asked.n_seq_max
    params.kv_unified = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked.threads
    params.offline = True
    params.ui = False
    params.endpoint_props = params.endpoint_slots = False
    params.cache_ram_mib = 0  # it would keep prompts of ended answers
    params.cache_prompt = False  # likewise, wherever a question does not ask for it
    server = xllamacpp.Server(params)
    asked.socket.chmod(0o600)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main()
