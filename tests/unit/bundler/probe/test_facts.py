import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import ProbeError
from bundler.probe.facts import MOST_BYTES, Gpu, Probe
from bundler.probesummary import summary
from media.canonical import dumps
from media.errors import MalformedError
from tests.support.probes import gpu_probe, probe

PLAIN = probe(packages=("adduser 3.134 all", "zlib1g 1:1.2.13.dfsg-1 amd64"))


def changed(**fields: object) -> bytes:
    return dumps({**PLAIN.to_json(), **fields})


@pytest.mark.parametrize("one", [PLAIN, gpu_probe(), probe(python="", distribution="", cpu_flags=())])
def test_a_probe_is_read_as_it_was_written(one: Probe) -> None:
    assert Probe.from_bytes(one.to_bytes()) == one


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("product", "other"),
        ("architecture", ""),
        ("cores", 0),
        ("memory_mib", True),
        ("cpu_flags", ["b", "a"]),
        ("cpu_flags", ["a", "a"]),
        ("cpu_flags", ["A"]),
        ("glibc", "2.36.1"),
        ("glibc", ""),
        ("musl", "1.2"),
        ("codename", "Ward 7, John"),
        ("kernel", "6.1.0-26-amd64"),
        ("driver", "570.86 "),
        ("packages", ["zlib1g 1.0 amd64", "adduser 1.0 all"]),
        ("packages", ["adduser"]),
        ("gpus", [{"name": "", "pci": "", "count": 1, "memory_mib": 0}]),
        ("gpus", [{"name": "x", "pci": "", "count": 0, "memory_mib": 0}]),
        ("gpus", [{"name": "x", "pci": "", "count": 1, "memory_mib": 0, "serial": "123"}]),
        ("hostname", "ward7"),
    ],
)
def test_what_a_probe_does_not_write_is_refused(field: str, value: object) -> None:
    with pytest.raises(ProbeError):
        Probe.from_bytes(changed(**{field: value}))


def test_a_probe_has_one_form_only() -> None:
    with pytest.raises(ProbeError):
        Probe.from_bytes(json.dumps(PLAIN.to_json(), indent=2).encode())


def test_a_probe_too_large_is_not_read() -> None:
    with pytest.raises(ProbeError, match="too large"):
        Probe.from_bytes(b" " * (MOST_BYTES + 2))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_probe_or_our_error(untrusted: bytes) -> None:
    with pytest.raises(ProbeError):
        Probe.from_bytes(untrusted)


@given(st.data())
def test_any_value_in_any_field_is_a_probe_or_our_error(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(PLAIN.to_json())))
    leaf = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=30)
    value = data.draw(st.recursive(leaf, lambda inner: st.lists(inner, max_size=3), max_leaves=5))
    try:
        untrusted = changed(**{field: value})
    except MalformedError:  # what has no canonical form is in no file
        return
    try:
        found = Probe.from_bytes(untrusted)
    except ProbeError:
        return
    assert found.to_bytes() == untrusted + b"\n"


def test_the_summary_says_what_follows() -> None:
    told = summary(gpu_probe(driver="", cuda="", python=""))

    assert "2 x NVIDIA L40S, 46068 MiB each" in told
    assert "llama.cpp uses haswell" in told
    assert "newest CUDA    12.8" in summary(gpu_probe(cuda=""))
    assert "CUDA wheels will be refused" in told
    assert "python3 has to travel" in told
    assert "whole closure travels" in told
    assert "device 10de:26b9" in summary(probe(gpus=(Gpu(name="", pci="10de:26b9", count=1, memory_mib=0),)))
