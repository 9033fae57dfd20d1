"""What the tokens of one context leave behind in a model of safetensors, by its `config.json`: keys and values.

Rules:
    CTX-1 It is a lower bound. What is refused by it could not be opened; a form that is not known here counts nothing,
          and the engine finds out as it loads.
    CTX-2 Layers that look at the last tokens alone keep as many; where they are not told apart, all of them count so.
    CTX-3 Heads are spread over the cards of a group, none in less than whole; layers over the groups.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from media import canonical
from media.errors import MediaError

_FULL, _SLIDING = "full_attention", "sliding_attention"
_OTHER_LAYERS: Final = frozenset(
    {"layers_block_type", "hybrid_override_pattern", "attn_layer_period", "attn_layer_indices", "attn_type_list",
     "full_attention_interval", "kv_lora_rank", "multi_query", "ssm_cfg", "mamba_d_state", "state_size",
     "num_kv_shared_layers", "sliding_window_pattern", "block_configs"}
)  # fmt: skip
"""Fields of models whose layers keep less than keys and values of every token, in forms that are not read here."""
_BYTES: Final = 2
_MOST: Final = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a model keeps of tokens.

    Attributes:
        whole: Layers that keep all tokens of a context.
        sliding: Layers that keep the last `window` alone.
        window: How many tokens those keep.
        heads: Heads of keys and values of a layer.
        head_bytes: Of one token in one head, key and value.
    """

    whole: int
    sliding: int
    window: int
    heads: int
    head_bytes: int

    @classmethod
    def of_config(cls, text: str) -> Self | None:
        """Return what a `config.json` says; None where it says nothing that is known here (CTX-1)."""
        told: Any = None
        with suppress(MediaError):
            told = canonical.loads(text.encode(), allow_floats=True)
        if not isinstance(told, Mapping) or _OTHER_LAYERS & told.keys() or "text_config" in told:
            return None
        layers, heads, queries, width = (
            _count(told.get(name))
            for name in ("num_hidden_layers", "num_key_value_heads", "num_attention_heads", "hidden_size")
        )
        head = _count(told.get("head_dim")) or (width // queries if queries else 0)
        if not (layers and heads and head):
            return None
        window = 0 if told.get("use_sliding_window") is False else _count(told.get("sliding_window"))
        kinds = told.get("layer_types")
        if kinds is None:
            sliding = layers if window else 0
        elif isinstance(kinds, list) and len(kinds) == layers and set(map(str, kinds)) <= {_FULL, _SLIDING}:
            sliding = kinds.count(_SLIDING)
        else:
            return None
        quantized = told.get("quantization_config")
        smaller = isinstance(quantized, Mapping) and any("kv_cache" in str(name) for name in quantized)
        return cls(
            whole=layers - sliding,
            sliding=sliding,
            window=window,
            heads=heads,
            head_bytes=2 * head * (1 if smaller else _BYTES),
        )

    def of_one(self, n_ctx: int, *, spread: int = 1, groups: int = 1) -> int:
        """Return the bytes that one context takes on one card at least, or on a processor.

        Args:
            n_ctx: Its tokens.
            spread: Over how many cards a layer lies (`tensor_parallel_size`).
            groups: Over how many of those groups the layers lie (`pipeline_parallel_size`).
        """
        tokens = self.whole * n_ctx + self.sliding * min(n_ctx, self.window)
        return tokens * max(1, self.heads // spread) * self.head_bytes // groups


def _count(untrusted: Any) -> int:
    return untrusted if type(untrusted) is int and 0 < untrusted < _MOST else 0
