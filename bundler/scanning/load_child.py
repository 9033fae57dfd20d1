"""Load one GGUF file and decode one token. Stand-alone: run where llama-cpp-python is, in a sandbox.

Arguments: the file, threads, the library for this processor (`-` where llama.cpp is to choose), and `embedding` where
it makes vectors and no answers. Prints one JSON line with what it can see around it, before the engine is imported, and
one with what it did. Exits 3 where llama.cpp refuses the file, 4 where it makes no context, 5 where it does not decode.
"""

import ctypes
import json
import math
import os
import socket
import sys
from pathlib import Path

_CONTEXT = 64
_TEXT = b"Sealift 1"
_WARNING = 3
_NO_NEW_PRIVILEGES = 39
_PIECE_BYTES = 4096


def _surroundings() -> dict[str, object]:
    """Return what this process can see: the parent compares it with what it took away."""
    status = ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 0, 0, 0, 0)
    return {
        "interfaces": [name for _, name in socket.if_nameindex()],
        "can_gain_rights": status != 1,
        "sees_machine": any(Path(name).exists() for name in ("/etc", "/proc", "/var", "/sys")),
        "can_write": os.access("/", os.W_OK),
    }


def _tell(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Load the file; return 0 where a token was decoded to finite numbers."""
    path, threads, library, *job = arguments
    makes_vectors = job == ["embedding"]
    _tell(_surroundings())
    import llama_cpp

    def show(level: int, text: bytes, _: object) -> None:
        if level >= _WARNING:
            sys.stderr.buffer.write(text)

    log = llama_cpp.llama_log_callback(show)
    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    package = Path(llama_cpp.__file__).parent
    variants = package.parent / "bin"
    if any(variants.glob("libggml-cpu-*.so")):
        ggml = ctypes.CDLL(str(package / "lib/libggml.so.0"))
        if library == "-":  # nothing could be tried
            ggml.ggml_backend_load_all_from_path(ctypes.c_char_p(str(variants).encode()))
        else:
            ggml.ggml_backend_load(ctypes.c_char_p(str(variants / library).encode()))
    llama_cpp.llama_backend_init()
    model_params = llama_cpp.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model_params.check_tensors = True  # llama.cpp looks at every block of every tensor
    model = llama_cpp.llama_model_load_from_file(path.encode(), model_params)
    if not model:
        return 3
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = _CONTEXT
    params.n_threads = params.n_threads_batch = int(threads)
    if makes_vectors:
        params.embeddings, params.pooling_type = True, llama_cpp.LLAMA_POOLING_TYPE_MEAN
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        return 4
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    known = llama_cpp.llama_vocab_n_tokens(vocabulary)
    room = (llama_cpp.llama_token * _CONTEXT)()
    count = llama_cpp.llama_tokenize(vocabulary, _TEXT, len(_TEXT), room, _CONTEXT, True, False)
    piece = ctypes.create_string_buffer(_PIECE_BYTES)
    # Every piece is asked for, because faults in vocabularies show only when their text is copied.
    for token in range(known):
        llama_cpp.llama_token_to_piece(vocabulary, token, piece, _PIECE_BYTES, 0, True)
    if count < 1 or llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(room, count)) != 0:
        return 5
    if makes_vectors:
        found, numbers = llama_cpp.llama_get_embeddings_seq(context, 0), llama_cpp.llama_model_n_embd(model)
    else:
        found, numbers = llama_cpp.llama_get_logits_ith(context, -1), known
    if not found or not all(math.isfinite(found[at]) for at in range(numbers)):
        return 5
    _tell({"vocabulary": known, "tokens": count, "version": llama_cpp.__version__})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
