"""llama.cpp through llama-cpp-python's low-level API.

Threads: one caller. Sampling stays in llama.cpp's own chain; Python touches logits only to tell how likely a token was,
and to find the likeliest where nothing else is asked for. A grammar is asked about the token that the chain drew, and
about the whole vocabulary only where it refuses that one: this draws from the same distribution, and most steps cost
nothing.
"""

import ctypes
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np

from appliance.errors import EngineLoadError, EngineProtocolError
from appliance.serve import llama_devices
from appliance.serve.engine import Constraint, Likelihood, Row, Sampling
from appliance.serve.grammar import grammar_text
from appliance.serve.llama_chain import chain_of, is_plain
from appliance.serve.llama_copies import Copies
from appliance.serve.llama_schema import rules_of
from appliance.serve.llama_vocabulary import LlamaVocabulary
from media.llamaprofile import ON_PROCESSOR, LlamaSettings, own_cells

_QUIET: Final = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)


@dataclass(slots=True, kw_only=True)
class _Sampler:
    chain: Any
    grammar: Any = None
    is_plain: bool = False
    """Whether the likeliest token is drawn, whatever was said before: llama.cpp would copy the vocabulary for that."""


@dataclass(slots=True, kw_only=True)
class _Suspended:
    sampler: _Sampler | None
    state: Any

    @property
    def state_bytes(self) -> int:
        return 0 if self.state is None else len(self.state)


class LlamaCppDecoder:
    """A GGUF model and one context, as `appliance.serve.engine.Decoder`."""

    knows_names = has_forms_behind_thoughts = True

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int,
        n_batch: int,
        n_seq_max: int,
        threads: int,
        settings: LlamaSettings = ON_PROCESSOR,
    ) -> None:
        llama_cpp.llama_log_set(_QUIET, ctypes.c_void_p(0))
        llama_devices.load_backends()
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        shares = llama_devices.place(model_params, settings)
        self._model = llama_devices.load(path, model_params)
        del shares  # llama.cpp has read them
        if not self._model:
            raise EngineLoadError(
                what="llama.cpp could not load the weights",
                why="the file is not a GGUF model this build understands",
                fix="validate the version again with `sealift validate`",
            )
        self.context_tokens = n_ctx
        self.request_tokens = settings.request_tokens(n_ctx=n_ctx, n_seq_max=n_seq_max)
        self.batch_tokens = n_batch
        self.sequences = n_seq_max
        self._is_unified = settings.kv_unified
        # One sequence more than answers, for padding and scoring; apart, llama.cpp gives each an equal share.
        self._own_tokens = n_batch if settings.kv_unified else own_cells(self.request_tokens)
        context_params = llama_cpp.llama_context_default_params()
        context_params.n_ctx = n_ctx + n_batch if settings.kv_unified else self._own_tokens * (n_seq_max + 1)
        context_params.n_batch = n_batch
        context_params.n_ubatch = n_batch
        context_params.n_seq_max = n_seq_max + 1
        context_params.n_threads = context_params.n_threads_batch = threads
        context_params.kv_unified = settings.kv_unified
        self._context = llama_cpp.llama_init_from_model(self._model, context_params)
        if not self._context:
            raise EngineLoadError(
                what="llama.cpp could not make a context",
                why=f"{n_ctx} tokens for {n_seq_max} sequences do not fit the memory",
                fix="lower n_ctx in the version's runtime profile",
            )
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size = self.vocabulary_tokens = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self._vocabulary = vocabulary = LlamaVocabulary(self._vocab)
        self.start, self.end, self.opening = vocabulary.start, vocabulary.end, vocabulary.opening
        self._ending = llama_devices.Ending(self._context)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = batch = llama_cpp.llama_batch_init(n_batch, 0, 1)
        # Whole columns are written at once: through ctypes alone each number would cost as much as all of a column.
        self._columns = tuple(
            np.ctypeslib.as_array(column, shape=(n_batch,)) for column in (batch.token, batch.pos, batch.logits)
        )
        self._sequence_cells = [batch.seq_id[at] for at in range(n_batch)]
        self._of_cells: tuple[int, ...] = ()
        np.ctypeslib.as_array(batch.n_seq_id, shape=(n_batch,))[:] = 1
        self._samplers: dict[int, _Sampler] = {}
        self._place_of: Sequence[int] = range(n_batch)
        self._order: tuple[list[int], list[int]] = [], []
        self._wants: Sequence[bool] = ()
        self._likeliest: list[int] = []
        self._logits_seen: tuple[int, Any] = (0, ())
        self._copies = Copies(self._context, cells=self._own_tokens)
        self._logits_row = ctypes.c_float * self._vocab_size
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}
        self._candidates = np.zeros(self._vocab_size, dtype=[("id", "i4"), ("logit", "f4"), ("p", "f4")])
        self._ids = np.arange(self._vocab_size, dtype=np.int32)
        # Their memory is one state, not a row of tokens: no part of it can be taken away or given on.
        self._is_whole = bool(
            llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model)
        )
        self._window = int(llama_cpp.llama_model_n_swa(self._model))

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of `text` without adding a start token; see `Decoder`."""
        raw = text.encode()
        room = len(raw) + 8
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), buffer, room, False, special)
        if count < 0:
            raise EngineProtocolError(what="the tokenizer failed", why=f"code {count}", fix="report it")
        return list(buffer[:count])

    def is_named(self, token: int) -> bool:
        """Tell whether a token is found by its name; see `Decoder`."""
        return self._vocabulary.is_named(token)

    def grammar_of(self, constraint: Constraint) -> str:
        """Return the grammar in llama.cpp's own notation; see `Decoder`."""
        return grammar_text(rules_of(constraint.schema), constraint)

    def begin(self, sequence: int, sampling: Sampling) -> None:
        """Make the sequence's sampler chain; see `Decoder`."""
        chain = chain_of(sampling, tokens=self._vocab_size)
        self._samplers[sequence] = sampler = _Sampler(chain=chain, is_plain=is_plain(sampling))
        if sampling.grammar:
            text = sampling.grammar.encode()
            sampler.grammar = llama_cpp.llama_sampler_init_grammar(self._vocab, text, b"root")
            if not sampler.grammar:
                raise EngineProtocolError(
                    what="a grammar was not taken", why="llama.cpp does not read it", fix="simplify the schema"
                )

    def decode(self, rows: Sequence[Row]) -> bool:
        """Run one step; see `Decoder`."""
        count = self._batch.n_tokens = len(rows)
        if not self._is_unified:
            rows = self._by_neighbours(rows)
        tokens, positions, wanted = self._columns
        tokens[:count], positions[:count], sequences, wants = zip(*rows, strict=True)
        if wants != self._wants:  # as is so of the sequences
            wanted[:count] = self._wants = wants
        if sequences != self._of_cells[:count]:  # most steps are of the sequences of the one before
            for cell, sequence in zip(self._sequence_cells, sequences, strict=False):
                cell[0] = sequence
            self._of_cells = sequences
        self._copies.done()
        self._likeliest.clear()
        code = llama_cpp.llama_decode(self._context, self._batch)
        if code not in {0, llama_devices.ENDED}:
            raise EngineProtocolError(
                what="a decode step failed", why=f"llama_decode returned {code}", fix="see the journal of the engine"
            )
        return bool(code == 0)

    def halt(self) -> None:
        """End the step that goes on between two of its operations; see `Decoder`."""
        self._ending.halt()

    def go_on(self) -> None:
        """Take `halt` back; see `Decoder`."""
        self._ending.go_on()

    def _by_neighbours(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Order rows by sequence: llama.cpp computes neighbours together that come one after another, and no others."""
        sequences = [row.sequence for row in rows]
        of_sequences, order = self._order
        if sequences != of_sequences:
            order = sorted(range(len(rows)), key=sequences.__getitem__)
            self._order = sequences, order
            self._place_of = place_of = [0] * len(rows)
            for place, row in enumerate(order):
                place_of[row] = place
        return [rows[row] for row in order]

    def sample(self, sequence: int, row: int) -> int:
        """Draw a token in llama.cpp's chain; see `Decoder`."""
        sampler = self._samplers[sequence]
        if sampler.is_plain:
            if not self._likeliest:
                self._likeliest = self._find_likeliest()
            return self._likeliest[self._place_of[row]]
        if sampler.grammar is None:
            return int(llama_cpp.llama_sampler_sample(sampler.chain, self._context, self._place_of[row]))
        token = self._draw(sampler, row, within_grammar=False)
        if not self._fits(sampler, token):
            token = self._draw(sampler, row, within_grammar=True)
            if not self._fits(sampler, token):
                raise EngineProtocolError(
                    what="no token fits the answer's schema",
                    why="its grammar came to an end",
                    fix="simplify the schema",
                )
        # The grammar ends the process for a token that it would not take, so it is asked before.
        llama_cpp.llama_sampler_accept(sampler.grammar, token)
        llama_cpp.llama_sampler_accept(sampler.chain, token)
        return token

    def _find_likeliest(self) -> list[int]:
        """Return the likeliest token of each place of the batch; of all at once it costs little more than of one."""
        # llama.cpp puts the logits of those that want any one behind another.
        count, pointer = sum(self._wants), llama_cpp.llama_get_logits(self._context)
        address = ctypes.addressof(pointer.contents)
        seen, logits = self._logits_seen
        if address != seen or len(logits) < count:  # a view of them costs half of what it costs to read them
            logits = np.ctypeslib.as_array(pointer, shape=(count, self._vocab_size))
            self._logits_seen = address, logits
        found: list[int] = logits[:count].argmax(axis=1).tolist()
        if count == len(self._wants):
            return found
        return [found.pop(0) if wants else -1 for wants in self._wants]

    def _draw(self, sampler: _Sampler, row: int, *, within_grammar: bool) -> int:
        candidates = self._candidates
        candidates["id"] = self._ids
        candidates["logit"] = self._logits(row)
        candidates["p"] = 0
        held = self._array(candidates)
        if within_grammar:
            llama_cpp.llama_sampler_apply(sampler.grammar, ctypes.byref(held))
        llama_cpp.llama_sampler_apply(sampler.chain, ctypes.byref(held))
        return int(held.data[held.selected].id)

    def _fits(self, sampler: _Sampler, token: int) -> bool:
        one = np.zeros(1, dtype=self._candidates.dtype)
        one["id"] = token
        llama_cpp.llama_sampler_apply(sampler.grammar, ctypes.byref(self._array(one)))
        return bool(one["logit"][0] == 0)

    def _array(self, candidates: Any) -> Any:
        pointer = ctypes.cast(candidates.ctypes.data, llama_cpp.llama_token_data_p)
        return llama_cpp.llama_token_data_array(data=pointer, size=len(candidates), selected=-1, sorted=False)

    def _logits(self, row: int) -> Any:
        pointer = llama_cpp.llama_get_logits_ith(self._context, self._place_of[row])
        held = self._logits_row.from_address(ctypes.addressof(pointer.contents))
        return np.frombuffer(held, dtype=np.float32)

    def likelihood(self, row: int, token: int, top: int) -> Likelihood:
        """Return how likely a token was; see `Decoder`."""
        logits = self._logits(row).astype(np.float64)
        highest = float(logits.max())
        total = highest + math.log(float(np.exp(logits - highest).sum()))
        likeliest: list[int] = []
        if top:
            found = np.argpartition(logits, -top)[-top:]
            likeliest = [int(one) for one in found[np.argsort(-logits[found], kind="stable")]]
        return Likelihood(
            token=self.bytes_of(token),
            logprob=_finite(float(logits[token]) - total),
            top=tuple((self.bytes_of(one), _finite(float(logits[one]) - total)) for one in likeliest),
        )

    def bytes_of(self, token: int) -> bytes:
        """Return a token's bytes; see `Decoder`."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._bytes_of(token)
        return found

    def _bytes_of(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def is_end(self, token: int) -> bool:
        """Tell whether the token ends a turn; see `Decoder`."""
        found = self._ends.get(token)
        if found is None:
            found = self._ends[token] = bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))
        return found

    def reaches(self, sequence: int, tokens: int) -> bool:
        """Tell whether the window before a place is held; see `Decoder`."""
        # llama.cpp gives away cells that no window sees any more, and says from which position on it holds all.
        first = int(llama_cpp.llama_memory_seq_pos_min(self._memory, sequence)) if self._window else 0
        return self._is_whole or not tokens or 0 <= first <= max(0, tokens - self._window + 1)

    def copy(self, source: int, target: int, tokens: int) -> bool:
        """Share cells of the cache; see `Decoder`."""
        if self._is_whole:
            return False
        if self._is_unified:
            llama_cpp.llama_memory_seq_cp(self._memory, source, target, 0, tokens)
            return True
        self._copies.copy(source, target, tokens)
        return True

    def cut(self, sequence: int, tokens: int) -> bool:
        """Take the end of a sequence away; see `Decoder`."""
        if self.reaches(sequence, tokens) and llama_cpp.llama_memory_seq_rm(self._memory, sequence, tokens, -1):
            return True
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return False

    def rest(self, sequence: int) -> None:
        """Forget a sequence's sampler; see `Decoder`."""
        self._free(self._samplers.pop(sequence, None))

    def release(self, sequence: int) -> None:
        """Forget a sequence; see `Decoder`."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        self.rest(sequence)

    def suspend(self, sequence: int, *, most_bytes: int) -> _Suspended:
        """Copy the sequence's state out of the cache; see `Decoder`."""
        size = llama_cpp.llama_state_seq_get_size(self._context, sequence)
        state = None
        if 0 < size <= most_bytes and not self._copies.is_to_come(sequence):
            state = (ctypes.c_uint8 * size)()
            if llama_cpp.llama_state_seq_get_data(self._context, state, size, sequence) != size:
                state = None
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return _Suspended(sampler=self._samplers.pop(sequence, None), state=state)

    def resume(self, sequence: int, suspended: Any) -> bool:
        """Copy a state back; see `Decoder`."""
        if suspended.sampler is not None:
            self._samplers[sequence] = suspended.sampler
        # A copy whose bytes have yet to come would overwrite what is put back, or take it for what was there.
        if suspended.state is None or self._copies.touch(sequence):
            return False
        if llama_cpp.llama_state_seq_set_data(self._context, suspended.state, len(suspended.state), sequence):
            return True
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return False

    def discard(self, suspended: Any) -> None:
        """Forget a suspended sampler; see `Decoder`."""
        self._free(suspended.sampler)

    def _free(self, sampler: _Sampler | None) -> None:
        if sampler is not None:
            llama_cpp.llama_sampler_free(sampler.chain)
            if sampler.grammar is not None:
                llama_cpp.llama_sampler_free(sampler.grammar)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Score in a sequence of its own; see `Decoder`."""
        whole = [*prompt, *continuation]
        most = min(self.batch_tokens, self._own_tokens)
        if not prompt or not continuation or len(whole) > most:
            raise EngineProtocolError(
                what="the text to score does not fit one batch",
                why=f"{len(whole)} tokens against {most}",
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
            return sum(self.likelihood(first + offset, token, 0).logprob for offset, token in enumerate(continuation))
        finally:
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -sys.float_info.max
