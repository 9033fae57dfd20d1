"""The peers of `bench.engine`, each as a process in an environment of their own, where nothing of ours is.

python engine_child.py server MODEL PORT THREADS CONTEXT   llama_cpp.server, which comes with llama-cpp-python
python engine_child.py cpp MODEL PORT THREADS PLACES CONTEXT   llama.cpp's own C++ server (xllamacpp)
python engine_child.py loop MODEL THREADS SEQUENCES STEPS PROMPT OWN   `llama_decode` alone, greedily; prints tokens a
                                                           second, of steps alone, and with OWN tokens of prompts read
"""

import ctypes
import importlib
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def _with_backends() -> Any:
    llama_cpp = importlib.import_module("llama_cpp")  # it is in this process's own environment alone
    package = Path(str(llama_cpp.__file__)).parent
    variants = package.parent / "bin"
    sys.path.insert(0, str(Path(__file__).parent.parent))
    choice = importlib.import_module("media.processorchoice")
    if library := choice.fitting(Path(sys.executable), package.parent).library:  # as the engine's own process does
        ggml = ctypes.CDLL(str(package / "lib/libggml.so.0"))
        ggml.ggml_backend_load(ctypes.c_char_p(str(variants / library).encode()))
    return llama_cpp


def server(model: str, port: str, threads: str, context: str) -> None:
    """Serve with llama-cpp-python's packaged server; it answers one request at a time, so let it finish each."""
    _with_backends()
    # As our engine does it (`appliance.serve.llama_devices.load`): else it would take nine times as long with AMX.
    module = importlib.import_module("llama_cpp.llama_cpp")
    plain = module.llama_model_load_from_file

    def load(*arguments: Any) -> Any:
        with ThreadPoolExecutor(1) as loading:
            return loading.submit(plain, *arguments).result()

    module.llama_model_load_from_file = load  # type: ignore[attr-defined] # what its classes call
    packaged = importlib.import_module("llama_cpp.server.__main__")
    sys.argv = ["llama_cpp.server", "--model", model, "--host", "127.0.0.1", "--port", port, "--n_threads", threads]
    sys.argv += ["--n_threads_batch", threads, "--n_ctx", context, "--interrupt_requests", "False"]
    # By itself it computes the scores of every token of a prompt, and leaves out flash attention.
    sys.argv += ["--logits_all", "False", "--flash_attn", "True", "--verbose", "False"]
    packaged.main()


def cpp(model: str, port: str, threads: str, places: str, context: str) -> None:
    """Serve with llama.cpp's own server until this process is ended."""
    found = importlib.import_module("xllamacpp")  # which this checkout's environment does not have
    params = found.CommonParams()
    params.model.path = model
    params.n_ctx = int(context)
    params.n_parallel = int(places)
    params.cache_ram_mib = 0  # what it keeps of a sequence is copied first, and no question comes twice
    params.cpuparams.n_threads = int(threads)
    params.cpuparams_batch.n_threads = int(threads)
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    running = found.Server(params)
    sys.stdout.write(f"{running.listening_address}\n")
    while True:
        time.sleep(3600)


def loop(model: str, threads: str, sequences: str, steps: str, prompt: str, own: str) -> None:
    """Print what decoding gives with so many sequences in each step: alone, and with each prompt's own tokens read."""
    llama_cpp = _with_backends()
    llama_cpp.llama_backend_init()
    quiet = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    count, rounds, start = int(sequences), int(steps), int(prompt)
    loaded = llama_cpp.llama_model_load_from_file(model.encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = (start + rounds + 8) * count
    params.n_batch = params.n_ubatch = 512  # as ours
    params.n_seq_max = count
    params.n_threads = params.n_threads_batch = int(threads)
    params.kv_unified = False  # as ours: a sequence's rows look at no other's, which is faster
    context = llama_cpp.llama_init_from_model(loaded, params)
    batch = llama_cpp.llama_batch_init(start * count, 0, 1)
    numpy = importlib.import_module("numpy")
    words = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(loaded))

    def put(rows: list[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(rows)
        for at, (token, position, sequence, wants) in enumerate(rows):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, position, 1
            batch.seq_id[at][0], batch.logits[at] = sequence, wants
        if llama_cpp.llama_decode(context, batch) != 0:
            raise SystemExit("llama_decode failed")

    def likeliest() -> list[int]:  # a sampler of llama.cpp's copies every score of a row first
        scores = numpy.ctypeslib.as_array(llama_cpp.llama_get_logits(context), shape=(count, words))
        return [int(row.argmax()) for row in scores]

    shared = start - int(own)
    for at in range(shared):
        put([(100 + at, at, one, False) for one in range(count)])
    asked = time.perf_counter()
    put([(100 + at, at, one, at == start - 1) for one in range(count) for at in range(shared, start)])
    tokens = likeliest()
    began = time.perf_counter()
    for step in range(rounds):
        put([(tokens[one], start + step, one, True) for one in range(count)])
        tokens = likeliest()
    ended, made = time.perf_counter(), count * rounds
    sys.stdout.write(f"{made / (ended - began)} {made / (ended - asked)}\n")


if __name__ == "__main__":
    KINDS: dict[str, Callable[..., None]] = {"server": server, "cpp": cpp, "loop": loop}
    KINDS[sys.argv[1]](*sys.argv[2:])
