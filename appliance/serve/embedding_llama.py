"""A GGUF model that makes vectors with llama.cpp, in a context of its own.

The same file mapped a second time takes no memory of its own beyond the context. A model for embeddings alone (BERT and
its kin) reads a text at once and not from left to right; llama.cpp sees from the weights which kind it is.
"""

import ctypes
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np

from appliance.errors import EngineLoadError, EngineProtocolError
from appliance.serve import llama_devices
from appliance.serve.embedding import left
from media.embedding import EMBEDDING_BATCH_TEXTS, EMBEDDING_BATCH_TOKENS, EmbeddingProfile, Pooling
from media.llamaprofile import ON_PROCESSOR

_POOLINGS: Final[dict[Pooling, int]] = {
    "mean": llama_cpp.LLAMA_POOLING_TYPE_MEAN,
    "cls": llama_cpp.LLAMA_POOLING_TYPE_CLS,
    "last": llama_cpp.LLAMA_POOLING_TYPE_LAST,
}
_WATCHED_TOKENS: Final = 32


class LlamaCppEmbedder:
    """As `appliance.serve.embedding.Embedder`.

    Args:
        path: The weights.
        profile: The version's.
        threads: As many as answers have; both never run at once.

    Raises:
        EngineLoadError: llama.cpp refuses the weights, or they make other vectors than the profile says.
    """

    def __init__(self, path: Path, profile: EmbeddingProfile, *, threads: int) -> None:
        llama_devices.load_backends()
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        devices = llama_devices.place(model_params, ON_PROCESSOR)
        self._model = llama_devices.load(path, model_params)
        del devices  # llama.cpp has read them
        if not self._model:
            raise _unloadable("the file is not a GGUF model this build understands")
        self.context_tokens = profile.n_ctx
        self.batch_tokens = max(profile.n_ctx, EMBEDDING_BATCH_TOKENS)
        self.batch_texts = EMBEDDING_BATCH_TEXTS
        self.dimensions = int(llama_cpp.llama_model_n_embd(self._model))
        if self.dimensions != profile.dimensions:
            raise _unloadable(f"its vectors have {self.dimensions} numbers, the profile says {profile.dimensions}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = self.batch_tokens
        params.n_seq_max = EMBEDDING_BATCH_TEXTS
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = threads
        params.embeddings = True
        params.pooling_type = _POOLINGS[profile.pooling]
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise _unloadable(f"a context of {self.batch_tokens} tokens cannot be made")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.vocabulary = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self._memory: Any = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(self.batch_tokens, 0, 1)
        self._tokenizing = threading.Lock()
        self._has_left: Callable[[], bool] = lambda: False
        # Called between the operations of a batch, on the thread that asked for it. Made once and before the engine
        # filters its calls: what a callback of C needs is memory that can be executed.
        self._ends = llama_cpp.ggml_abort_callback(lambda _: self._has_left())

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a text; see `Embedder`."""
        raw = text.encode(errors="replace")
        room = len(raw) + 8
        with self._tokenizing:
            buffer = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), buffer, room, True, False)
        if count < 0:
            raise EngineProtocolError(what="the tokenizer failed", why=f"code {count}", fix="report it")
        return list(buffer[:count])

    def embed(self, texts: Sequence[Sequence[int]], has_left: Callable[[], bool]) -> list[list[float]]:
        """Return one vector for each text; see `Embedder`."""
        if has_left():
            raise left()
        batch = self._batch
        at = 0
        for sequence, text in enumerate(texts):
            for position, token in enumerate(text):
                batch.token[at] = token
                batch.pos[at] = position
                batch.n_seq_id[at] = 1
                batch.seq_id[at][0] = sequence
                batch.logits[at] = True
                at += 1
        batch.n_tokens = at
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, True)
        # A thousand questions are a millisecond, which is much of a short text's time and nothing of a long one's.
        self._has_left = has_left
        ends = self._ends if at >= _WATCHED_TOKENS else llama_cpp.ggml_abort_callback(0)
        llama_cpp.llama_set_abort_callback(self._context, ends, None)
        code = llama_cpp.llama_decode(self._context, batch)  # which encodes, where the model has no memory
        if code == llama_devices.ENDED:
            raise left()
        if code != 0:
            raise EngineProtocolError(what="embeddings failed", why=f"llama.cpp returned {code}", fix="see the journal")
        return [self._vector(sequence) for sequence in range(len(texts))]

    def _vector(self, sequence: int) -> list[float]:
        pointer = llama_cpp.llama_get_embeddings_seq(self._context, sequence)
        if not pointer:
            raise EngineProtocolError(what="embeddings failed", why="there is no vector", fix="validate the version")
        found: list[float] = np.ctypeslib.as_array(
            ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), shape=(self.dimensions,)
        ).tolist()
        return found


def _unloadable(why: str) -> EngineLoadError:
    return EngineLoadError(
        what="the weights for embeddings cannot be loaded", why=why, fix="validate the version with `sealift validate`"
    )
