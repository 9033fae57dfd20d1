"""In which precision vLLM computes, by what the kernel says of the processor."""

from pathlib import Path

import pytest

from appliance.serve.precision import is_single
from media.vllmprofile import VllmSettings

GIB = 2**30
AVX2 = "cpu:type:x86,ven0002fam0019mod0001:feature:,0000,0001,0064,0125,0126\n"
AVX512 = "cpu:type:x86,ven0000fam0006mod008F:feature:,0000,0125,0130,0185\n"
ARM = "cpu:type:aarch64:feature:,0000,0001\n"


def asked(folder: Path, told: str | None, *, weights: int = GIB, free: int = 8 * GIB, quantization: str = "") -> bool:
    place = folder / "sys/devices/system/cpu"
    place.mkdir(parents=True)
    if told is not None:
        (place / "modalias").write_text(told)
    return is_single(VllmSettings(quantization=quantization), weights_bytes=weights, free_bytes=free, root=folder)


@pytest.mark.parametrize(
    ("told", "single"),
    [(AVX2, True), (AVX512, False), (ARM, False), ("", False), (None, False), ("\xff\xfe:feature:", False)],
)
def test_where_a_processor_has_no_avx512_it_is_single_precision(
    tmp_path: Path,
    told: str | None,
    single: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    assert asked(tmp_path, told) is single


def test_weights_that_would_fill_more_than_a_quarter_of_what_is_free_stay_as_they_are(tmp_path: Path) -> None:
    assert asked(tmp_path / "a", AVX2, weights=GIB, free=8 * GIB)
    assert not asked(tmp_path / "b", AVX2, weights=GIB + 1, free=8 * GIB)


def test_quantized_weights_stay_as_they_are(tmp_path: Path) -> None:
    assert not asked(tmp_path, AVX2, quantization="awq")
