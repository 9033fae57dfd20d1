"""A stand-in for llama-cpp-python that does to its process what the loaded file says; it runs in the real sandbox.

It has the functions of the real one that the scan calls, in the same order and with the same arguments.
"""

import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from bundler.process import Progress

_MODULE = """
import ctypes, os, socket, sys, time
__version__ = "0.0.9"
llama_token = ctypes.c_int32
class _Params: pass
def llama_log_callback(function): return function
def llama_log_set(function, data): _log.append(function)
def llama_backend_init(): pass
def llama_model_default_params(): return _Params()
def llama_context_default_params(): return _Params()
_log = []
def llama_model_load_from_file(path, params):
    assert params.check_tensors and params.n_gpu_layers == 0
    order = open(path, "rb").read().partition(b"DO:")[2].partition(b";")[0].decode(errors="replace")
    _log[0](4, ("told to " + order).encode(), None)
    if order.startswith("refuse"): return None
    if order == "crash": ctypes.string_at(0)
    if order == "vanish": os._exit(0)
    if order == "hang": time.sleep(300)
    if order == "eat": return bytearray(2**45)
    if order == "flood": os.write(1, b'{"vocabulary": 1}' + b"x" * 2**20); return None
    return order
def llama_init_from_model(model, params): return None if model == "no-context" else model
def llama_model_get_vocab(model): return model
def llama_vocab_n_tokens(vocab): return 3
def llama_tokenize(vocab, text, length, room, count, special, parse): return 2
def llama_token_to_piece(vocab, token, buffer, size, lstrip, special): return 1
def llama_batch_get_one(room, count): return count
def llama_decode(context, batch): return 1 if context == "no-decode" else 0
def llama_get_logits_ith(context, row):
    return None if context.startswith("vectors") else [0.0, float("nan") if context == "nan" else 1.0, 2.0]
LLAMA_POOLING_TYPE_MEAN = 1
def llama_model_n_embd(model): return 2
def llama_get_embeddings_seq(context, sequence): return [0.5, float("nan") if context == "vectors-nan" else 1.0]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileEngine:
    """An engine as `bundler.scanning.engineload` takes one."""

    folder: Path
    version: str = "0.0.9"
    wheel_sha256: str = "e" * 64

    def python(self, *, progress: Progress) -> Path:
        """Return an interpreter that has the stand-in, made on first use."""
        progress("making the stand-in")
        if not self.folder.exists():
            venv.create(self.folder, with_pip=False)
            libraries = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
            (self.folder / libraries / "llama_cpp.py").write_text(_MODULE)
        return self.folder / "bin" / "python"
