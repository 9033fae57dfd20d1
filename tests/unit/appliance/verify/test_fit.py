from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.verify import fit
from appliance.verify.fit import Machine, require_fit, require_rehearsed, require_site
from media.errors import TargetMismatchError, WrongSiteError
from media.release import ReleaseTerms, TargetMachine

BOX = Machine(
    profile="single-cpu", python="3.11", platform="linux_x86_64", glibc="2.36", cpu_flags=frozenset({"avx2", "fma"})
)
WANTED = TargetMachine(profile="single-cpu", python="3.11", platform="linux_x86_64", glibc="2.36", cpu_flags=("avx2",))


def terms(*machines: TargetMachine) -> ReleaseTerms:
    return ReleaseTerms(
        release="r",
        serial=1,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        sites=("north", "south"),
        machines=machines,
        payload_digest="00" * 32,
        checkpoints={},
    )


def test_a_machine_that_has_all_it_needs_fits() -> None:
    assert require_fit(terms(replace(WANTED, profile="gpu"), WANTED), BOX) == WANTED


@pytest.mark.parametrize(
    "wanted",
    [
        replace(WANTED, profile="gpu"),
        replace(WANTED, python="3.12"),
        replace(WANTED, platform="linux_aarch64"),
        replace(WANTED, glibc="2.37"),
        replace(WANTED, glibc="2.361"),
        replace(WANTED, cpu_flags=("avx2", "avx512f")),
    ],
)
def test_a_machine_that_lacks_one_thing_does_not_fit(wanted: TargetMachine) -> None:
    with pytest.raises(TargetMismatchError):
        require_fit(terms(wanted), BOX)


def nvidia(folder: Path) -> Path:
    (folder / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (folder / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (x@y)\nGCC 12.2.0\n"
    )
    (folder / "gpus" / "0000:01:00.0" / "information").write_text(
        "Model: \t\t NVIDIA L40S\nIRQ:   \t\t 12\nGPU UUID: \t GPU-0\n"
    )
    return folder


def test_the_gpu_and_its_driver_are_what_the_driver_says(tmp_path: Path) -> None:
    folder = nvidia(tmp_path)

    assert (fit._driver(folder), fit._gpus(folder)) == ("570.86.15", frozenset({"NVIDIA L40S"}))
    assert (fit._driver(tmp_path / "none"), fit._gpus(tmp_path / "none")) == ("", frozenset())


def test_a_card_of_another_maker_is_known_by_vendor_and_device(tmp_path: Path) -> None:
    for node, vendor, device in (
        ("renderD128", "0x1002\n", "0x744c\n"),
        ("renderD129", "0x1002\n", "0x744c\n"),  # the same kind once more
        ("renderD130", "0x8086\n", "0x56a0\n"),
        ("renderD131", "virtual\n", "0x0001\n"),
        ("card0", "0x1a03\n", "0x2000\n"),  # shows a screen and computes nothing
    ):
        (tmp_path / node / "device").mkdir(parents=True)
        (tmp_path / node / "device/vendor").write_text(vendor)
        (tmp_path / node / "device/device").write_text(device)
    (tmp_path / "renderD132").mkdir()  # no card of the bus

    found = fit._rendering(tmp_path)

    assert found == {"1002:744c", "8086:56a0"}
    require_fit(terms(replace(WANTED, gpu="1002:744c")), replace(BOX, gpus=found))
    with pytest.raises(TargetMismatchError) as caught:
        require_fit(terms(replace(WANTED, gpu="1002:744d")), replace(BOX, gpus=found))
    assert "GPU 1002:744c, 8086:56a0 expected 1002:744d" in caught.value.why
    assert fit._rendering(tmp_path / "none") == frozenset()


@pytest.mark.parametrize(
    ("driver", "gpu", "said"),
    [
        ("570.86.15", "NVIDIA L40S", ""),
        ("99.9", "", ""),
        ("570.124", "", "GPU driver 570.86.15 older than 570.124"),
        ("", "NVIDIA H200", "GPU NVIDIA L40S expected NVIDIA H200"),
    ],
)
def test_a_release_for_a_gpu_needs_that_gpu_and_its_driver(driver: str, gpu: str, said: str) -> None:
    box = replace(BOX, gpus=frozenset({"NVIDIA L40S"}), driver="570.86.15")
    wanted = terms(replace(WANTED, driver=driver, gpu=gpu))

    assert Machine.from_json(box.to_json()) == box
    if not said:
        assert require_fit(wanted, box).driver == driver
        return
    with pytest.raises(TargetMismatchError) as refusal:
        require_fit(wanted, box)
    assert said in refusal.value.why


def test_a_machine_without_a_driver_does_not_fit_a_release_that_needs_one() -> None:
    with pytest.raises(TargetMismatchError) as refusal:
        require_fit(terms(replace(WANTED, driver="525.60.13")), BOX)

    assert "GPU driver none older than 525.60.13" in refusal.value.why


def test_versions_are_compared_by_number_not_by_text() -> None:
    assert require_fit(terms(replace(WANTED, glibc="2.4")), BOX).glibc == "2.4"


def test_what_is_lacking_is_said() -> None:
    with pytest.raises(TargetMismatchError) as refusal:
        require_fit(terms(replace(WANTED, cpu_flags=("avx512f", "amx_tile"))), BOX)

    assert "amx_tile, avx512f" in refusal.value.why


def test_a_release_without_machines_fits_none() -> None:
    with pytest.raises(TargetMismatchError):
        require_fit(terms(), BOX)


def test_another_site_is_refused_with_all_names() -> None:
    require_site(terms(), "south")

    with pytest.raises(WrongSiteError, match="north, south, this site is west"):
        require_site(terms(), "west")


@pytest.mark.parametrize(
    ("level", "demanded", "accepted"),
    [
        ("installed", "installed", True),
        ("answered-on-target", "installed", True),
        ("installed", "answered-on-cpu", False),
        ("answered-on-cpu", "answered-on-target", False),
        (None, "installed", False),
        ("invented", "installed", False),
        (None, None, True),
    ],
)
def test_a_rehearsal_must_reach_what_the_site_demands(level: str, demanded: str, accepted: bool) -> None:  # noqa: FBT001
    if accepted:
        require_rehearsed(level, demanded=demanded)
    else:
        with pytest.raises(TargetMismatchError):
            require_rehearsed(level, demanded=demanded)


def test_this_machine_can_say_what_it_is() -> None:
    probed = Machine.probe("single-cpu")

    assert probed.platform.startswith("linux_")
    assert Machine.from_json(probed.to_json()) == probed
