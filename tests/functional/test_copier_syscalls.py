"""What the kernel saw of the copier: a medium is never written, each file is opened once, nothing is connected to."""

import collections
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.actions import copying
from appliance.store.copier import Job
from media import layout
from tests.support.medium import make_medium
from tests.support.receiving import terms_for

_OPENED = re.compile(r'openat\([^<]*<(?P<folder>[^>]*)>, "(?P<name>[^"]*)", (?P<flags>[A-Z_|]+)[^)]*\)\s*=\s*[0-9]')


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_medium_is_read_once_and_never_written(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")
    job = Job(
        volumes=tuple(map(str, medium.volumes)),
        store=str(tmp_path / "store"),
        terms=terms_for(medium),
        full=False,
        lock=None,
    )
    trace = tmp_path / "trace"
    calls = "trace=openat,open,creat,socket,connect,unlink,unlinkat,rename,renameat,renameat2,truncate,mkdir,mkdirat"
    done = subprocess.run(
        ["strace", "-ff", "-y", "-e", calls, "-o", str(trace), *copying._command()],
        input=job.to_bytes(),
        capture_output=True,
        check=False,
    )
    if b"ptrace" in done.stderr:
        pytest.skip("tracing is not allowed here")
    assert done.returncode == 0, done.stderr[-500:]
    # One file for each thread: in a common one, calls that overlap are cut in two lines ("<unfinished ...>").
    lines = [line for part in tmp_path.glob("trace.*") for line in part.read_text(errors="replace").splitlines()]

    opened: collections.Counter[str] = collections.Counter()
    for line in lines:
        match = _OPENED.search(line)
        if match and str(medium.folder) in f"{match['folder']}/{match['name']}":
            assert "O_WRONLY" not in match["flags"]
            assert "O_RDWR" not in match["flags"]
            if "O_DIRECTORY" not in match["flags"]:
                opened[f"{match['folder']}/{match['name']}"] += 1
                assert "O_NOFOLLOW" in match["flags"]
    content = [path for volume in medium.volumes for path in volume.rglob("*") if path.is_file()]
    assert opened == {str(path): 1 for path in content}
    assert layout.RELEASE in next(iter(opened))
    # urllib3, loaded by python-tuf's package, asks at import whether the kernel knows IPv6; gpgv asks who it is.
    assert not [line for line in lines if "connect(" in line and "AF_UNIX" not in line]
    assert len([line for line in lines if "socket(AF_INET" in line]) <= 1
    changing = ("unlink", "rename", "truncate", "mkdir", "creat(")
    assert not [line for line in lines if any(call in line for call in changing) and str(medium.folder) in line]
