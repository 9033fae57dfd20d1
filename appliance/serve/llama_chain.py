"""llama.cpp's own chain of samplers, by which one sequence's tokens are drawn: its order is llama.cpp's usual one."""

from typing import Any, Final

import llama_cpp

from appliance.serve.engine import LLAMA_SEEDS, Sampling

_MIN_KEEP: Final = 1
_LAST_TOKENS: Final = 64  # llama.cpp's own window for what counts as repeated
_GREEDY_BELOW: Final = 1e-4  # dividing logits by less overflows and draws garbage
_NO_PENALTY: Final = (1.0, 0.0, 0.0)


def chain_of(sampling: Sampling, *, tokens: int) -> Any:
    """Return a new chain, for whoever asked to free; a grammar is no part of it.

    Args:
        sampling: How tokens are drawn.
        tokens: How many the vocabulary has.
    """
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    if sampling.logit_bias:
        biases = (llama_cpp.llama_logit_bias * len(sampling.logit_bias))(*sampling.logit_bias)
        added = llama_cpp.llama_sampler_init_logit_bias(tokens, len(biases), biases)
        llama_cpp.llama_sampler_chain_add(chain, added)
    if (repeat := _repeat(sampling)) != _NO_PENALTY:
        penalties = llama_cpp.llama_sampler_init_penalties(tokens, _LAST_TOKENS, *repeat)
        llama_cpp.llama_sampler_chain_add(chain, penalties)
    if sampling.temperature < _GREEDY_BELOW:
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_greedy())
    else:
        if sampling.top_k > 0:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_p(sampling.top_p, _MIN_KEEP))
        if sampling.min_p > 0:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_min_p(sampling.min_p, _MIN_KEEP))
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_temp(sampling.temperature))
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_dist(sampling.seed % LLAMA_SEEDS))
    return chain


def is_plain(sampling: Sampling) -> bool:
    """Tell whether the likeliest token is drawn, whatever was said before."""
    is_greedy = sampling.temperature < _GREEDY_BELOW and _repeat(sampling) == _NO_PENALTY
    return is_greedy and not sampling.grammar and not sampling.logit_bias


def _repeat(sampling: Sampling) -> tuple[float, float, float]:
    return sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty
