import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import RecipeError
from bundler.probe.facts import Gpu
from bundler.target import KEYS, Target
from media.release import _machine
from tests.support.probes import gpu_probe, probe

KEY = "targets.0"


def test_a_table_alone_says_what_is_certain_and_demands_it() -> None:
    target = Target.from_table({"profile": "cpu", "cpu_flags": ["avx2", "avx"], "gpu": None}, key=KEY)

    assert (target.python, target.glibc, target.machine, target.debian_architecture) == (
        "3.11", "2.36", "x86_64", "amd64",
    )  # fmt: skip
    assert target.signed()["cpu_flags"] == ["avx", "avx2"]
    assert "gpu" not in target.signed()


def test_a_probed_machine_demands_only_what_the_recipe_and_the_wheels_need() -> None:
    target = Target.from_table({"profile": "gpu", "cpu_flags": ["avx2"]}, key=KEY, probe=gpu_probe())

    assert "fma" in target.cpu_flags
    assert target.signed() == {
        "profile": "gpu", "python": "3.11", "platform": "linux_x86_64", "glibc": "2.36", "cpu_flags": ["avx2"],
        "gpu": "NVIDIA L40S",
    }  # fmt: skip
    assert target.signed(cpu_flags=["f16c"], driver="525.60.13")["driver"] == "525.60.13"
    assert target.signed(cpu_flags=["f16c"])["cpu_flags"] == ["avx2", "f16c"]


def test_what_is_signed_is_what_the_receiver_reads() -> None:
    target = Target.from_table({"profile": "gpu", "driver": "550.54.14", "gpu": "NVIDIA L40S"}, key=KEY)

    assert _machine(target.signed()).driver == "550.54.14"


def test_a_card_may_be_named_by_vendor_and_device() -> None:
    target = Target.from_table({"profile": "gpu", "gpu": "1002:744c"}, key=KEY)

    assert target.signed()["gpu"] == "1002:744c"


def test_a_probe_of_another_card_is_no_probe_of_this_machine() -> None:
    amd = probe(gpus=(Gpu(name="", pci="1002:744c", count=1, memory_mib=0),))

    found = Target.from_table({"profile": "gpu", "gpu": "1002:744c"}, key=KEY, probe=amd)

    assert found.signed()["gpu"] == "1002:744c"
    assert "gpu" not in Target.from_table({"profile": "gpu"}, key=KEY, probe=amd).signed()
    with pytest.raises(RecipeError, match="gpu"):
        Target.from_table({"profile": "gpu", "gpu": "1002:ffff"}, key=KEY, probe=amd)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({}, "targets.0.profile"),
        ({"profile": "A b"}, "targets.0.profile"),
        ({"profile": "x", "colour": "red"}, "targets.0.colour"),
        ({"profile": "x", "python": "2.7"}, "targets.0.python"),
        ({"profile": "x", "platform": "win_amd64"}, "targets.0.platform"),
        ({"profile": "x", "glibc": 2.36}, "targets.0.glibc"),
        ({"profile": "x", "cpu_flags": "avx"}, "targets.0.cpu_flags"),
        ({"profile": "x", "cpu_flags": ["AVX"]}, "targets.0.cpu_flags"),
        ({"profile": "x", "gpu_count": -1}, "targets.0.gpu_count"),
        ({"profile": "x", "driver": "new"}, "targets.0.driver"),
        ({"profile": "x", "gpu": "1002:744C"}, "targets.0.gpu"),
    ],
)
def test_a_wrong_key_is_named(table: dict[str, object], key: str) -> None:
    with pytest.raises(RecipeError, match=key.replace(".", r"\.")):
        Target.from_table(table, key=KEY)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"glibc": "2.31"}, "glibc"),
        ({"cpu_flags": ["avx512f"]}, "cpu_flags"),
        ({"driver": "535.54.03"}, "driver"),
        ({"gpu_count": 4}, "gpu_count"),
    ],
)
def test_a_recipe_that_contradicts_the_probe_is_refused(table: dict[str, object], key: str) -> None:
    with pytest.raises(RecipeError, match=rf"targets\.0\.{key}"):
        Target.from_table({"profile": "x", **table}, key=KEY, probe=gpu_probe())


@pytest.mark.parametrize("change", [{"glibc": "", "musl": "1.2"}, {"architecture": "riscv64"}, {"python": "3.9"}])
def test_a_machine_that_no_release_can_serve_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"targets\.0\.probe"):
        Target.from_table({"profile": "x"}, key=KEY, probe=probe(**change))


def test_a_machine_without_python_takes_the_recipes() -> None:
    assert Target.from_table({"profile": "x", "python": "3.12"}, key=KEY, probe=probe(python="")).python == "3.12"


_VALUE = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=8), max_size=3)


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=12), _VALUE, max_size=6), st.booleans())
def test_any_table_is_a_machine_or_an_error_that_names_the_key(table: dict[str, object], is_probed: bool) -> None:  # noqa: FBT001
    named = ""
    try:
        found = Target.from_table({"profile": "x", **table}, key=KEY, probe=gpu_probe() if is_probed else None)
    except RecipeError as error:
        named = error.what
    if named:
        assert named.startswith("targets.0.")
        return
    assert _machine(found.signed()).profile == found.profile
