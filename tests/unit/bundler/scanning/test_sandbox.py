"""What a script can do in the sandbox that models are loaded in; every script here tries to do it."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.scanning import sandbox
from bundler.scanning.sandbox import ISOLATED, NETWORK_ONLY, Ended, Limits

LIMITS = Limits(memory=2**30, seconds=20, cpu_seconds=10)


@pytest.fixture(scope="module", autouse=True)
def is_possible() -> None:
    if sandbox.level() != ISOLATED:
        pytest.skip("this machine lets nobody make mount namespaces")


def ran(
    folder: Path, code: str, *, limits: Limits = LIMITS, files: dict[Path, str] | None = None, at: str = ""
) -> Ended:
    script = folder / "script.py"
    script.write_text(code)
    return sandbox.run(Path(sys.executable), script, list((files or {}).values()), limits=limits, files=files, at=at)


@pytest.mark.parametrize("at", [ISOLATED, NETWORK_ONLY])
def test_there_is_no_network(tmp_path: Path, at: str) -> None:
    code = (
        "import socket\n"
        "print([name for _, name in socket.if_nameindex()])\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80), 2)\n"
        "except OSError as error:\n    print(error.strerror)\n"
    )

    ended = ran(tmp_path, code, at=at)

    assert ended.output == "['lo']\nNetwork is unreachable\n"


def test_nothing_of_the_machine_is_to_be_seen(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    code = (
        "import os\n"
        "print([name for name in ('/etc', '/proc', '/sys', '/var', '/dev/mem') if os.path.exists(name)])\n"
        f"print(os.path.exists({str(secret)!r}), os.environ.get('HOME'), 'SECRET' in os.environ)\n"
    )

    assert ran(tmp_path, code).output == "[]\nFalse / False\n"


def test_files_that_are_handed_over_are_read_only_whatever_their_mode_and_nothing_can_be_made(tmp_path: Path) -> None:
    data = tmp_path / "m.gguf"
    data.write_bytes(b"weights")
    data.chmod(0o666)
    code = (
        "import os, sys\n"
        "print(open(sys.argv[1]).read())\n"
        "for name in (sys.argv[1], '/usr/x', '/x', '/dev/x', sys.prefix + '/x'):\n"
        "    try:\n        os.open(name, os.O_WRONLY | os.O_CREAT)\n        print('opened', name)\n"
        "    except OSError:\n        pass\n"
        "try:\n    os.unlink(sys.argv[1])\n    print('gone')\nexcept OSError:\n    pass\n"
    )

    ended = ran(tmp_path, code, files={data: "/model.gguf"})

    assert ended.output == "weights\n", ended.errors
    assert data.read_bytes() == b"weights"


def test_rights_cannot_be_had_or_gained(tmp_path: Path) -> None:
    code = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.prctl(39, 0, 0, 0, 0), libc.mount(b'x', b'/usr', b'tmpfs', 0, None), libc.chroot(b'/usr'))\n"
        "try:\n    os.setuid(1)\n    print('set')\nexcept OSError:\n    print('refused')\n"
    )

    assert ran(tmp_path, code).output == "1 -1 -1\nrefused\n"


def test_a_crash_is_told_by_its_signal(tmp_path: Path) -> None:
    ended = ran(tmp_path, "import ctypes\nprint('before', flush=True)\nctypes.string_at(0)\n")

    assert (ended.signal_name, ended.is_late, ended.output) == ("SIGSEGV", False, "before\n")


def test_an_exit_code_is_passed_on(tmp_path: Path) -> None:
    ended = ran(tmp_path, "import sys\nsys.exit(3)\n")

    assert (ended.code, ended.signal_name) == (3, "")


def test_a_script_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    code = "import os, time\nos.fork()\nos.setsid() if os.fork() == 0 else None\ntime.sleep(300)\n"
    started = time.monotonic()

    ended = ran(tmp_path, code, limits=Limits(memory=2**30, seconds=1, cpu_seconds=10))

    assert ended.is_late
    assert time.monotonic() - started < 60


def test_memory_and_processor_time_are_capped(tmp_path: Path) -> None:
    small = Limits(memory=2**28, seconds=20, cpu_seconds=1)

    assert "MemoryError" in ran(tmp_path, "x = bytearray(2**29)\n", limits=small).errors
    assert ran(tmp_path, "while True: pass\n", limits=small).signal_name in {"SIGXCPU", "SIGKILL"}


def test_a_flood_of_output_costs_no_memory_and_keeps_both_ends(tmp_path: Path) -> None:
    ended = ran(
        tmp_path, "import sys\nprint('first')\nfor _ in range(300): sys.stdout.write('x' * 65536)\nprint('last')\n"
    )

    assert len(ended.output) < 2**18
    assert ended.output.startswith("first")
    assert ended.output.endswith("last\n")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Lend a folder that every user can enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_user_without_root_gets_the_same_sandbox(open_folder: Path) -> None:
    python = shutil.which("python3", path="/usr/bin")
    if python is None or shutil.which("setpriv") is None:
        pytest.skip("this test runs the system's own Python as nobody")
    root = Path(__file__).resolve().parents[4]
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(root)!r})\n"
        "from pathlib import Path\n"
        "from bundler.scanning import sandbox\n"
        "limits = sandbox.Limits(memory=2**30, seconds=20, cpu_seconds=10)\n"
        "ended = sandbox.run(Path('/usr/bin/python3'), Path(sys.argv[1]), [], limits=limits)\n"
        "print(sandbox.level(), ended.output, ended.errors)\n"
    )
    inner = open_folder / "inner.py"
    inner.write_text(
        "import os, socket\n"
        "print(os.path.exists('/etc'), len(socket.if_nameindex()))\n"
        "try:\n    os.open('/x', os.O_WRONLY | os.O_CREAT)\n    print('made a file')\nexcept OSError:\n    pass\n"
    )
    inner.chmod(0o644)

    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    done = subprocess.run([*nobody, python, "-B", "-c", code, inner], capture_output=True, text=True, check=False)

    if "no sandbox can be made" in done.stderr or NETWORK_ONLY in done.stdout:
        pytest.skip("this machine lets only root make namespaces")
    assert done.stdout == f"{ISOLATED} False 1\n \n", done.stderr
