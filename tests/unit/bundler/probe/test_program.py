"""The stand-alone program, run by the shells that a bare machine may have."""

import shutil
from pathlib import Path

import pytest

from bundler.probe.facts import Gpu, Probe
from tests.support.probes import PROGRAM, ask, machine, program

SHELLS = [("sh",), ("dash",), ("bash", "--posix"), ("busybox", "sh")]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_a_machine_tells_its_facts_in_one_canonical_file(tmp_path: Path, shell: tuple[str, ...]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")

    done = ask(machine(tmp_path), shell=shell)

    found = Probe.from_bytes(done.stdout.encode())
    assert (done.returncode, done.stderr) == (0, "")
    assert found.to_bytes() == done.stdout.encode()
    assert (found.architecture, found.cores, found.memory_mib) == ("x86_64", 4, 32000)
    assert found.cpu_flags == ("avx", "avx2", "sse4_2")
    assert (found.glibc, found.python) == ("2.36", "3.11")
    # busybox prefers its own uname to the one on the path.
    assert found.kernel == "6.1" or shell[0] == "busybox"
    assert (found.distribution, found.release, found.codename) == ("debian", "12", "bookworm")
    assert (found.driver, found.cuda) == ("570.86.15", "12.8")
    assert found.gpus == (
        Gpu(name="NVIDIA A2", pci="10de:25b6", count=1, memory_mib=15356),
        Gpu(name="NVIDIA L40S", pci="10de:26b9", count=2, memory_mib=46068),
    )
    assert found.packages == ("adduser 3.134 all", "zlib1g 1:1.2.13.dfsg-1 amd64")


def test_without_a_driver_the_bus_names_the_device(tmp_path: Path) -> None:
    found = Probe.from_bytes(ask(machine(tmp_path, with_driver=False)).stdout.encode())

    assert found.gpus == (Gpu(name="", pci="10de:26b9", count=1, memory_mib=0),)
    assert (found.driver, found.cuda) == ("", "")


def test_the_list_of_packages_can_be_left_out(tmp_path: Path) -> None:
    assert Probe.from_bytes(ask(machine(tmp_path), "-n").stdout.encode()).packages is None


def test_a_package_list_of_another_form_is_left_out_whole(tmp_path: Path) -> None:
    root = machine(tmp_path)
    program(root / "bin", "dpkg-query", "#!/bin/sh\nprintf 'ii |a \"x all\\nii |adduser 3.134 all\\n'\n")

    assert Probe.from_bytes(ask(root).stdout.encode()).packages is None


def test_the_file_is_shown_and_written_only_after_a_yes(tmp_path: Path) -> None:
    root, out = machine(tmp_path / "m"), tmp_path / "probe.json"

    refused = ask(root, "-o", str(out), answer="\n")
    assert (refused.returncode, out.exists()) == (1, False)
    shown, _, asked = refused.stderr.partition("packages: 2\n")
    assert Probe.from_bytes(shown.replace("\n  ", "").encode()) == Probe.from_bytes(ask(root).stdout.encode())
    assert "[y/N]" in asked

    written = ask(root, "-o", str(out), answer="y\n")
    assert (written.returncode, written.stdout) == (0, "")
    assert Probe.load(out).cores == 4


def test_no_file_is_written_over(tmp_path: Path) -> None:
    out = tmp_path / "probe.json"
    out.write_text("mine")

    done = ask(machine(tmp_path / "m"), "-y", "-o", str(out))

    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert out.read_text() == "mine"


def test_a_machine_that_cannot_say_what_it_is_gets_the_form(tmp_path: Path) -> None:
    root = machine(tmp_path)
    (root / "proc/meminfo").unlink()

    done = ask(root)

    assert (done.returncode, done.stdout) == (1, "")
    assert "probe form" in done.stderr


def test_the_program_of_this_very_machine_is_accepted() -> None:
    assert Probe.from_bytes(ask(Path("/")).stdout.encode()).cores > 0


def test_nothing_that_names_a_machine_or_a_person_is_asked() -> None:
    text = PROGRAM.read_text()

    for word in ("hostname", "machine-id", "product_uuid", "product_serial", "gpu_uuid", "/etc/passwd", "ip addr"):
        assert word not in text


def test_what_a_hostile_machine_says_stays_out_of_the_file(tmp_path: Path) -> None:
    root = machine(tmp_path)
    (root / "etc/os-release").write_text('ID=de"bian\nVERSION_ID="12 $(id)"\nVERSION_CODENAME=Ward-7\n')
    (root / "proc/cpuinfo").write_text('flags\t: avx2 "a","b":"c" \\u0000 ' + "x" * 40 + "\n")
    program(root / "bin", "uname", '#!/bin/sh\ncase $1 in -m) echo x86_64;; -r) echo \'6.1","a":"\';; esac\n')
    told = "query*) printf 'N\"V %090d, 1, 0x26B910DE\\nbad\\n' 0;; *) echo 'CUDA Version: x';;"
    program(root / "bin", "nvidia-smi", f'#!/bin/sh\ncase "$*" in *{told} esac\n')

    done = ask(root)

    found = Probe.from_bytes(done.stdout.encode())
    assert found.cpu_flags == ("avx2",)
    assert (found.distribution, found.release, found.codename, found.kernel) == ("debian", "", "", "6.1")
    assert (len(found.gpus[0].name), found.cuda) == (64, "")
