"""llama.cpp through llama-cpp-python's low-level API. The only module that imports `llama_cpp`.

Threads: one caller. Sampling stays in llama.cpp's own chain, so Python touches no logits except for scoring.
"""

import ctypes
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np

from appliance.errors import EngineLoadError, EngineProtocolError
from appliance.serve.engine import Row, Sampling

_MIN_KEEP: Final = 1
_LAST_TOKENS: Final = 64  # llama.cpp's own window for what counts as repeated
_GREEDY_BELOW: Final = 1e-4  # dividing logits by less overflows and draws garbage
_QUIET: Final = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)


def load_backends() -> None:
    """Register the CPU variant that fits this machine, when the wheel carries several.

    The portable wheel keeps them in ``site-packages/bin``; a native wheel has its backend built in and nothing happens.
    The library must be ``libggml.so.0``: the wheel holds copies, not links, and a second copy would get the backends.
    """
    package = Path(llama_cpp.__file__).parent
    variants = package.parent / "bin"
    if not any(variants.glob("libggml-cpu-*.so")):
        return
    ggml = ctypes.CDLL(str(package / "lib/libggml.so.0"))
    ggml.ggml_backend_load_all_from_path(ctypes.c_char_p(str(variants).encode()))


class LlamaCppDecoder:
    """A GGUF model and one context, as `appliance.serve.engine.Decoder`."""

    def __init__(self, path: Path, *, n_ctx: int, n_batch: int, n_seq_max: int, threads: int) -> None:
        llama_cpp.llama_log_set(_QUIET, ctypes.c_void_p(0))
        load_backends()
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
        if not self._model:
            raise EngineLoadError(
                what="llama.cpp could not load the weights",
                why="the file is not a GGUF model this build understands",
                fix="validate the version again with `sealift validate`",
            )
        self.context_tokens = n_ctx
        self.batch_tokens = n_batch
        self.sequences = n_seq_max
        context_params = llama_cpp.llama_context_default_params()
        context_params.n_ctx = n_ctx + n_batch
        context_params.n_batch = n_batch
        context_params.n_ubatch = n_batch
        context_params.n_seq_max = n_seq_max + 1
        context_params.n_threads = threads
        context_params.n_threads_batch = threads
        context_params.kv_unified = True
        self._context = llama_cpp.llama_init_from_model(self._model, context_params)
        if not self._context:
            raise EngineLoadError(
                what="llama.cpp could not make a context",
                why=f"{n_ctx} tokens for {n_seq_max} sequences do not fit the memory",
                fix="lower n_ctx in the version's runtime profile",
            )
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(n_batch, 0, 1)
        self._samplers: dict[int, Any] = {}

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of `text` without adding a start token; see `Decoder`."""
        raw = text.encode()
        room = len(raw) + 8
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), buffer, room, False, special)
        if count < 0:
            raise EngineProtocolError(what="the tokenizer failed", why=f"code {count}", fix="report it")
        return list(buffer[:count])

    def begin(self, sequence: int, sampling: Sampling) -> None:
        """Make the sequence's sampler chain; see `Decoder`."""
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if sampling.repeat_penalty != 1:
            repeat = (self._vocab_size, _LAST_TOKENS, sampling.repeat_penalty, 0.0, 0.0)
            penalties = llama_cpp.llama_sampler_init_penalties(*repeat)
            llama_cpp.llama_sampler_chain_add(chain, penalties)
        if sampling.temperature < _GREEDY_BELOW:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_greedy())
        else:
            if sampling.top_k > 0:
                llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_k(sampling.top_k))
            if sampling.top_p < 1:
                llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_p(sampling.top_p, _MIN_KEEP))
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_temp(sampling.temperature))
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_dist(sampling.seed & 0xFFFFFFFF))
        self._samplers[sequence] = chain

    def decode(self, rows: Sequence[Row]) -> None:
        """Run one step; see `Decoder`."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for at, row in enumerate(rows):
            batch.token[at] = row.token
            batch.pos[at] = row.position
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = row.sequence
            batch.logits[at] = row.wants_logits
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise EngineProtocolError(
                what="a decode step failed", why=f"llama_decode returned {code}", fix="see the journal of the engine"
            )

    def sample(self, sequence: int, row: int) -> int:
        """Draw a token in llama.cpp's chain; see `Decoder`."""
        return int(llama_cpp.llama_sampler_sample(self._samplers[sequence], self._context, row))

    def bytes_of(self, token: int) -> bytes:
        """Return a token's bytes; see `Decoder`."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def is_end(self, token: int) -> bool:
        """Tell whether the token ends a turn; see `Decoder`."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))

    def release(self, sequence: int) -> None:
        """Forget a sequence; see `Decoder`."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        chain = self._samplers.pop(sequence, None)
        if chain is not None:
            llama_cpp.llama_sampler_free(chain)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Score in a sequence of its own; see `Decoder`."""
        whole = [*prompt, *continuation]
        if not prompt or not continuation or len(whole) > self.batch_tokens:
            raise EngineProtocolError(
                what="the text to score does not fit one batch",
                why=f"{len(whole)} tokens against {self.batch_tokens}",
                fix="shorten the evaluation item",
            )
        sequence = self.sequences
        first = len(prompt) - 1
        rows = [
            Row(token=token, position=at, sequence=sequence, wants_logits=first <= at < len(whole) - 1)
            for at, token in enumerate(whole)
        ]
        try:
            self.decode(rows)
            return sum(self._log_probability(first + offset, token) for offset, token in enumerate(continuation))
        finally:
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def _log_probability(self, row: int, token: int) -> float:
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        logits = np.ctypeslib.as_array(pointer, shape=(self._vocab_size,)).astype(np.float64)
        top = float(logits.max())
        value = float(logits[token]) - top - math.log(float(np.exp(logits - top).sum()))
        if not math.isfinite(value):
            return -sys.float_info.max
        return value
