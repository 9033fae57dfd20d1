"""By which samplers llama.cpp draws, where its library is not there: its functions only note what they are given."""

import sys
from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.serve.engine import Sampling

_ANY_SEED = 0xFFFFFFFF
"""LLAMA_DEFAULT_SEED of llama.h."""


class _Library(SimpleNamespace):
    """Stands for the library."""

    def __init__(self) -> None:
        super().__init__(noted=[])

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self.noted.append((name, given))


@pytest.mark.parametrize("seed", [-1, _ANY_SEED, 2**32, -(2**63), 2**63 - 1, 0, 7, _ANY_SEED - 1])
def test_a_seed_is_never_llama_cpps_wish_for_any(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    library = _Library()
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    spec = find_spec("appliance.serve.llama_chain")
    assert spec is not None
    assert spec.loader is not None
    chain = module_from_spec(spec)  # known under no name, so nobody else meets it with this library
    spec.loader.exec_module(chain)

    chain.chain_of(Sampling(temperature=1.0, seed=seed), tokens=10)

    (told,) = [given[0] for name, given in library.noted if name == "llama_sampler_init_dist"]
    assert 0 <= told < _ANY_SEED
    assert told == seed or not 0 <= seed < _ANY_SEED
