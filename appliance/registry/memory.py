"""What a version takes of memory while it serves, computed from its header and profile, and what a machine has.

Rules, each measured with llama.cpp (the figures of SmolLM2 are in docs/operator/promoting.md):
    MEM-1 Weights are mapped: they take their file's bytes, and a machine without room for all of them reads them from
          the disk at every token. They count whole.
    MEM-2 The cache of keys and values is taken at once, whole: two bytes for each value of each layer and each place,
          and there are n_ctx + n_batch places; where answers do not share them, one answer's more than all have.
    MEM-3 The compute buffer is as large as its largest moment: scores of the whole vocabulary for each row of a batch,
          the feed-forward step, or the attention's mask over all places; beside it a batch may keep its scores.
    MEM-4 A process of ours takes the same whatever it loads, and the tokenizer's tables beside it.
    MEM-5 Embeddings have weights and a context of their own beside all that, with places for one batch. The same file
          counts again: llama.cpp may lay it out anew in memory.
    MEM-6 So has a draft model: places for the longest conversation and a batch.
    MEM-7 Weights are laid out anew in types that the processor has instructions for (llama.cpp's ggml-cpu/repack.cpp,
          and ours for Q4_1 and Q8_0, ADR 77), in as many bytes; for AMX some types with sums beside each block
          (ggml-cpu/amx/mmq.cpp): an eighth more at Q8_0. Where the table of words is also what scores them, it is
          there twice: as it was, to be read from, and laid out anew.
    MEM-8 A recurrent or hybrid model keeps a state of fixed size for each answer, and one for padding, beside or in
          place of keys and values (appliance/registry/states.py).
    MEM-9 Of answers that gave their places or their room to others the engine keeps what they held, beside the cache:
          as much as the cache itself has, and `MOST_SUSPENDED_BYTES` at most (appliance/serve/context.py, ROOM-4).
A need is an upper bound: what is refused for want of memory might have fitted barely, never the other way.
"""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from appliance.errors import EngineLoadError
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.states import STATE_BYTES, state_of
from appliance.verify.fit import Machine
from media import gguf
from media.embedding import EMBEDDING_BATCH_TEXTS, EMBEDDING_BATCH_TOKENS
from media.gguf import GgufHeader
from media.llamaprofile import MOST_SUSPENDED_BYTES, own_cells

PROCESS_BYTES: Final = 96 * 2**20
"""The engine's master and worker with their libraries, nothing loaded."""
TOKEN_BYTES: Final = 512
"""What the tokenizer keeps for each token of the vocabulary."""
ENGINE_SHARE: Final = 0.85
"""MemoryMax= of an engine's unit, of all memory; the rest is for ledger, gateway and system."""
_VALUE_BYTES: Final = 2  # f16
_SCORE_BYTES: Final = 4  # f32
# By a tensor's type: bytes of a block, and those that its sums take.
_SUMS: Final[Mapping[str, tuple[int, int]]] = {"Q8_0": (34, 4), "Q4_K": (144, 4), "Q5_K": (176, 4), "IQ4_XS": (136, 2)}
_AMX: Final = "amx_int8"
# The types that are laid out anew where the processor names one of these flags.
_LAID_OUT: Final[Mapping[str, frozenset[str]]] = {
    _AMX: frozenset({*_SUMS, "Q4_0", "Q4_1", "Q6_K", "F16"}),
    "avx2": frozenset({"Q4_0", "Q4_1", "Q4_K", "IQ4_NL", "MXFP4"}),
    "avx512f": frozenset({"Q2_K"}),
    "avx512_vnni": frozenset({"Q8_0"}),
    "avx_vnni": frozenset({"Q8_0"}),
}
_TABLE, _SCORES = "token_embd.weight", "output.weight"
_PARTS: Final = ("weights", "cache", "compute", "process")
_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one loaded version takes at most, in bytes."""

    weights: int
    cache: int
    compute: int
    process: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.compute + self.process

    def __add__(self, beside: "Need") -> "Need":
        """Return what both take in one process."""
        return Need(
            weights=self.weights + beside.weights,
            cache=self.cache + beside.cache,
            compute=self.compute + beside.compute,
            process=self.process + beside.process - PROCESS_BYTES,
        )

    def to_json(self) -> dict[str, int]:
        """Return the parts and their sum, in bytes."""
        return {**{part: getattr(self, part) for part in _PARTS}, "total": self.total}

    @classmethod
    def from_json(cls, untrusted: Any) -> Self | None:
        """Return what `to_json` gave; None for anything else."""
        if not isinstance(untrusted, Mapping):
            return None
        found = {part: size for part in _PARTS if type(size := untrusted.get(part)) is int and size >= 0}
        return cls(**found) if len(found) == len(_PARTS) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a machine has, in bytes.

    Attributes:
        total: All memory that processes here may take: the machine's, or a smaller limit of a control group.
        available: What could be taken now without taking it from a program.
    """

    total: int
    available: int

    @property
    def engines(self) -> int:
        """What all engines together may take."""
        return int(self.total * ENGINE_SHARE)

    def to_json(self) -> dict[str, int]:
        """Return the figures, in bytes."""
        return {"total": self.total, "available": self.available, "engines": self.engines}


def need_of(descriptor: ModelDescriptor, path_of: Callable[[str], Path]) -> Need | None:
    """Return what a version takes; None for an engine that sizes its own cache by what it finds, as vLLM does.

    Of an attached engine that opens a GGUF file on a processor it is what llama.cpp would take.

    Args:
        descriptor: The version.
        path_of: Where the store has a file of the version.

    Raises:
        EngineLoadError: The weights do not say how they are built, so that nothing can be computed.
        MalformedError: Their header breaks a rule of `media.gguf`.
        UnreadableError: They cannot be read.
    """
    runtime, weights = descriptor.runtime, descriptor.gguf
    if weights is None or (runtime.attached is not None and runtime.attached.needs_gpu):
        return None
    header = gguf.read(path_of(weights.path))
    cells = None if runtime.llama.kv_unified else own_cells(runtime.request_tokens) * (runtime.n_seq_max + 1)
    need = need_of_header(
        header,
        length=weights.length,
        n_ctx=runtime.n_ctx,
        n_batch=runtime.n_batch,
        cells=cells,
        answers=runtime.n_seq_max,
    )
    if runtime.attached is None:
        need = with_suspended(need)
    own, profile, draft = descriptor.embedding_weights, runtime.embedding, descriptor.draft_weights
    if own is not None and profile is not None:
        at_once = max(profile.n_ctx, EMBEDDING_BATCH_TOKENS)
        need += need_of_header(gguf.read(path_of(own.path)), length=own.length, n_ctx=0, n_batch=at_once)
    if draft is not None:
        header = gguf.read(path_of(draft.path))
        need += need_of_header(
            header, length=draft.length, n_ctx=runtime.request_tokens, n_batch=runtime.n_batch, answers=1
        )
    return need


def with_suspended(need: Need) -> Need:
    """Return it with what our engine keeps of answers that gave way to others (MEM-9)."""
    return replace(need, cache=need.cache + min(need.cache, MOST_SUSPENDED_BYTES))


@cache
def _own_flags() -> frozenset[str]:
    """Return what this machine's processor names; where a unit sees no /proc/cpuinfo, all that there might be."""
    return Machine.probe("").cpu_flags or frozenset(_LAID_OUT)


def _laid_out(header: GgufHeader, flags: Collection[str]) -> int:
    """Return what MEM-7 adds to weights with this header."""
    kinds = frozenset[str]().union(*(kinds for flag, kinds in _LAID_OUT.items() if flag in flags))
    named = {tensor.name: tensor for tensor in header.tensors}
    table = named.get(_TABLE)
    twice = table.length if table is not None and table.type_name in kinds and _SCORES not in named else 0
    if _AMX not in flags:
        return twice
    return twice + sum(
        tensor.length // _SUMS[tensor.type_name][0] * _SUMS[tensor.type_name][1]
        for tensor in header.tensors
        if tensor.type_name in _SUMS
    )


def need_of_header(
    header: GgufHeader,
    *,
    length: int,
    n_ctx: int,
    n_batch: int,
    cells: int | None = None,
    answers: int = EMBEDDING_BATCH_TEXTS,
    flags: Collection[str] | None = None,
) -> Need:
    """Return what weights with this header take with a profile.

    Args:
        header: Of the weights.
        length: Bytes of the weights' file.
        n_ctx: Tokens that all answers share.
        n_batch: Tokens of one step.
        cells: Places of the cache, where each answer has a context of its own.
        answers: How many are made at once, each with a state of its own where the model has one.
        flags: What the processor names, as in /proc/cpuinfo; None for what this machine's does.

    Raises:
        EngineLoadError: The header lacks what must be known.
    """
    layers, width = _whole(header, "block_count"), _whole(header, "embedding_length")
    state = state_of(header)
    # A model of states alone has no heads, and says 0 or nothing.
    heads = _whole(header, "attention.head_count", otherwise=0 if state.values else None)
    cached_heads = _whole(header, "attention.head_count_kv", otherwise=heads)
    key = _whole(header, "attention.key_length", otherwise=width // max(1, heads))
    value = _whole(header, "attention.value_length", otherwise=key)
    forward = max(_whole(header, "feed_forward_length", otherwise=4 * width), 2 * state.inner)
    vocabulary = header.arrays.get("tokenizer.ggml.tokens") or _whole(header, "vocab_size")
    places = n_ctx + n_batch if cells is None else cells
    scores = n_batch * vocabulary * _SCORE_BYTES
    moments = (
        scores + 2 * n_batch * width * _SCORE_BYTES,
        n_batch * (3 * forward + 3 * width) * _SCORE_BYTES,
        places * n_batch * _VALUE_BYTES + 4 * n_batch * width * _SCORE_BYTES,
    )
    return Need(
        weights=length + _laid_out(header, _own_flags() if flags is None else flags),
        cache=places * layers * cached_heads * (key + value) * _VALUE_BYTES
        + (answers + 1) * layers * state.values * STATE_BYTES,
        compute=max(moments) + scores,
        process=PROCESS_BYTES + vocabulary * TOKEN_BYTES,
    )


def room(meminfo: Path = Path("/proc/meminfo"), *, own: Path = Path("/proc/self/cgroup")) -> Room:
    """Return what this machine has, or the control group that this process is in where that allows less.

    Raises:
        EngineLoadError: The kernel does not say.
    """
    try:
        fields = _fields(meminfo.read_text(encoding="ascii"))
        total, available = fields["MemTotal"], fields["MemAvailable"]
    except (OSError, KeyError, ValueError) as error:
        raise EngineLoadError(
            what="it cannot be told how much memory this machine has", why=type(error).__name__, fix="mount /proc"
        ) from error
    limit = _group_limit(own)
    if limit is not None and limit < total:
        return Room(total=limit, available=min(available, limit))
    return Room(total=total, available=available)


def machine() -> Room:
    """Return the machine's whole memory; our units see no /proc/meminfo, and their own limit is not the engines'."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Room(total=total, available=total)


def _fields(text: str) -> Mapping[str, int]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in pairs if rest.strip().endswith("kB")}


def _group_limit(own: Path) -> int | None:
    """Return the smallest memory.max from this process's control group up to the root; None without any."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found: list[int | None] = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        places = {"0": ("", "memory.max")}.get(number)
        if "memory" in controllers.split(","):
            places = ("memory", "memory.limit_in_bytes")
        if places is None:
            continue
        folder, file = _CGROUPS / places[0], places[1]
        parts = [part for part in path.split("/") if part not in {"", ".."}]
        found.extend(_limit(folder.joinpath(*parts[:depth], file)) for depth in range(len(parts) + 1))
    return min((one for one in found if one is not None), default=None)


def _limit(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _whole(header: GgufHeader, name: str, *, otherwise: int | None = None) -> int:
    found: Any = header.metadata.get(f"{header.architecture}.{name}") or otherwise
    if type(found) is not int or found < 0:
        raise EngineLoadError(
            what="what the version takes of memory cannot be computed",
            why=f"its weights do not say {header.architecture or 'architecture'}.{name}",
            fix="ask the sender for weights whose header is complete",
        )
    return found
