"""How llama.cpp opens a model beyond context and batch: layers on GPUs, and what stays of a conversation too long.

Requirements C25 and C35 to C38, in llama.cpp's and Ollama's words. A sender's recipe and the appliance both ask here,
so what a site would refuse is never signed. Without the table a version runs on the processor and refuses a
conversation that does not fit. Decimal numbers are texts, as in all that is signed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Final, Self

from media import canonical

ALL_LAYERS: Final = -1
MOST_LAYERS: Final = 1000
MOST_GPUS: Final = 16
MOST_GUESSED: Final = 16
MOST_ANSWERS: Final = 255
"""Answers at once; llama.cpp has 256 sequences, and one is for padding and scores."""
MOST_SUSPENDED_BYTES: Final = 256 << 20
"""What an engine keeps of all answers that gave their places away, so that they need not be read again."""
DRAFT_ROLE: Final = "draft"
"""What a descriptor calls the file with the weights of the small model that guesses."""
_LEAST_TOKENS: Final = 128
_CELLS: Final = 256
_MOST_DECIMAL: Final = 12
# What a table of before it was known stands for.
_LATER: Final[Mapping[str, Any]] = {"kv_unified": True, "draft_tokens": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaSettings:
    """What only llama.cpp asks for.

    Attributes:
        n_gpu_layers: Layers that lie on GPUs; 0 for none, -1 for all.
        num_gpu: Over how many GPUs they are spread, counted from the first one that the unit may see.
        main_gpu: Which of them holds what is not spread, from 0.
        tensor_split: Each GPU's share, as decimal texts in any unit; empty to spread evenly.
        num_keep: Tokens of its beginning that stay of a conversation that does not fit, whose older middle is then left
            out; 0 refuses such a conversation.
        kv_unified: Whether all answers share the context; else each has an equal part to itself, which no other may
            fill, and a step need not look at what the others hold.
        draft_tokens: Tokens that a small model beside it guesses in one step at most, while one answer is made alone;
            0 where there is none.
    """

    n_gpu_layers: int = 0
    num_gpu: int = 0
    main_gpu: int = 0
    tensor_split: tuple[str, ...] = ()
    num_keep: int = 0
    kv_unified: bool = True
    draft_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the table as a descriptor has it."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in _LATER:
            if found[name] == _LATER[name]:
                del found[name]  # a release of before it was known reads, and means, the same
        return {**found, "tensor_split": list(self.tensor_split)}

    @classmethod
    def from_json(cls, untrusted: Any, what: str) -> Self:
        """Read what a descriptor says; ranges are `faults`'s to judge.

        Raises:
            MalformedError: It has other fields, or of other types.
        """
        given = canonical.mapping(untrusted, what)
        names = tuple(field.name for field in fields(cls) if field.name not in _LATER or field.name in given)
        said: Mapping[str, Any] = canonical.exact_keys(given, names, what=what)
        shares = canonical.array(said["tensor_split"], f"{what}.tensor_split", most=MOST_GPUS)
        return cls(
            n_gpu_layers=canonical.integer(
                said["n_gpu_layers"], f"{what}.n_gpu_layers", minimum=ALL_LAYERS, maximum=MOST_LAYERS
            ),
            num_gpu=canonical.integer(said["num_gpu"], f"{what}.num_gpu", maximum=MOST_GPUS),
            main_gpu=canonical.integer(said["main_gpu"], f"{what}.main_gpu", maximum=MOST_GPUS),
            tensor_split=tuple(canonical.text(one, f"{what}.tensor_split", most=_MOST_DECIMAL) for one in shares),
            num_keep=canonical.integer(said["num_keep"], f"{what}.num_keep"),
            kv_unified=canonical.boolean(said.get("kv_unified", _LATER["kv_unified"]), f"{what}.kv_unified"),
            draft_tokens=canonical.integer(
                said.get("draft_tokens", _LATER["draft_tokens"]), f"{what}.draft_tokens", maximum=MOST_GUESSED
            ),
        )

    def request_tokens(self, *, n_ctx: int, n_seq_max: int) -> int:
        """Return how many tokens a conversation and its answer may have: all of the context, or an answer's part."""
        return n_ctx if self.kv_unified else n_ctx // n_seq_max

    def shares(self, devices: int) -> list[float]:
        """Return the share of each of so many devices, which llama.cpp brings to a sum of 1; nothing is left out.

        Args:
            devices: How many places llama.cpp wants, at least `num_gpu`.
        """
        given = [float(Decimal(one)) for one in self.tensor_split] or [1.0] * self.num_gpu
        return [*given, *([0.0] * (devices - len(given)))]

    def shortened(self, tokens: list[int], *, n_ctx: int, max_tokens: int) -> list[int]:
        """Return of a conversation that does not fit its beginning and its newest tokens, with room for its answer.

        One that fits by itself stays as it is, however little is left of the context for its answer.

        Args:
            tokens: The whole conversation.
            n_ctx: Tokens that it and its answer have.
            max_tokens: The longest answer; the newest tokens have at least half of what the beginning leaves.
        """
        if not self.num_keep or len(tokens) < n_ctx:
            return tokens
        rest = n_ctx - self.num_keep
        newest = max(rest - max_tokens, rest // 2)
        return [*tokens[: self.num_keep], *tokens[-newest:]]


def own_cells(request_tokens: int) -> int:
    """Return the places that llama.cpp lays for an answer with a context of its own: whole steps of 256."""
    return -(-request_tokens // _CELLS) * _CELLS


ON_PROCESSOR: Final = LlamaSettings()
"""What a profile without the table says."""


def faults(settings: LlamaSettings, *, n_ctx: int, n_seq_max: int) -> Iterator[str]:
    """Yield what is outside its range or contradicts another field, each with what is allowed.

    Args:
        settings: Of llama.cpp alone.
        n_ctx: Tokens that all answers have together.
        n_seq_max: Answers at once.
    """
    own = settings.request_tokens(n_ctx=n_ctx, n_seq_max=n_seq_max)
    if own < min(n_ctx, _LEAST_TOKENS):
        yield f"kv_unified is false: each of {n_seq_max} answers has {own} tokens; {_LEAST_TOKENS} are the least"
    has_layers = settings.n_gpu_layers != 0
    if not ALL_LAYERS <= settings.n_gpu_layers <= MOST_LAYERS:
        yield f"n_gpu_layers is {settings.n_gpu_layers}; allowed are {ALL_LAYERS} (all) to {MOST_LAYERS}"
    if not 0 <= settings.num_gpu <= MOST_GPUS:
        yield f"num_gpu is {settings.num_gpu}; allowed are 0 to {MOST_GPUS}"
    elif has_layers != (settings.num_gpu > 0):
        yield f"n_gpu_layers is {settings.n_gpu_layers} and num_gpu {settings.num_gpu}; both are 0, or neither is"
    if not 0 <= settings.main_gpu < max(settings.num_gpu, 1):
        yield f"main_gpu is {settings.main_gpu}; of {settings.num_gpu} GPUs it is 0 to {max(settings.num_gpu, 1) - 1}"
    if settings.tensor_split and len(settings.tensor_split) != settings.num_gpu:
        yield f"tensor_split has {len(settings.tensor_split)} shares for {settings.num_gpu} GPUs"
    elif settings.tensor_split and not _are_shares(settings.tensor_split):
        yield "tensor_split holds decimals from 0 on, and not all are 0"
    if not 0 <= settings.draft_tokens <= MOST_GUESSED:
        yield f"draft_tokens is {settings.draft_tokens}; allowed are 0 (no draft model) to {MOST_GUESSED}"
    if not 0 <= settings.num_keep <= own // 2:
        yield f"num_keep is {settings.num_keep}; allowed are 0 to half of what an answer has, {own // 2}"


def _are_shares(texts: tuple[str, ...]) -> bool:
    return all(canonical.DECIMAL.fullmatch(one) for one in texts) and any(Decimal(one) > 0 for one in texts)
