"""How a case of the corpus is judged: by its reader, by the copier, and by the verifier that lies on the medium."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from appliance.store.copier import Job, Lines, run
from appliance.verify.fit import Machine
from appliance.verify.freshness import Decisions
from appliance.verify.trust import TrustRecord
from appliance.verify.verifier import Terms
from media import canonical, layout
from media.digest import file_sha256
from media.errors import SealiftError
from tests.support.medium import MADE_AT
from tests.support.readers import READERS
from tests.support.receiving import NOW

EXPECTED: Final = "expected.json"
DIGESTS: Final = "SHA256SUMS"
KINDS: Final = ("valid", "malformed", "tampered")
_VERIFIER: Final = Path(__file__).resolve().parents[2] / "bundler/check/verify.py"


def cases(corpus: Path) -> Iterator[str]:
    """Return the names of all single files that a reader judges."""
    for kind in KINDS:
        for path in sorted((corpus / kind).iterdir()):
            if path.is_file() and not path.name.endswith(".medium.json"):
                yield f"{kind}/{path.name}"


def media(corpus: Path) -> Iterator[str]:
    """Return the names of all media, genuine and changed."""
    yield from (f"valid/{path.name}" for path in sorted((corpus / "valid").glob("medium-*")))
    yield from (f"tampered/{path.name}" for path in sorted((corpus / "tampered").glob("*.medium.json")))


def judge(corpus: Path, name: str) -> str:
    """Return the code with which a reader ends; `done` when it reads."""
    path = corpus / name
    try:
        READERS[path.name.partition("--")[0]](path.read_bytes())
    except SealiftError as error:
        return error.code
    return "done"


def judge_medium(corpus: Path, name: str, scratch: Path) -> dict[str, Any]:
    """Return how the copier ends with a medium, and whether the verifier on the medium finds it good."""
    change = json.loads((corpus / name).read_bytes()) if name.endswith(".json") else {"medium": Path(name).name}
    shutil.copytree(corpus / "valid" / change["medium"], scratch)
    volumes = sorted(scratch.iterdir())
    if "change" in change:
        _change(volumes, change)
    terms = Terms(
        trust=TrustRecord(root_chain=((corpus / "context/1.root.json").read_text("utf-8"),)),
        site="demo-clinic",
        environment="demo",
        machine=Machine(profile="cpu", python="3.11", platform="linux_x86_64", glibc="2.36", cpu_flags=frozenset()),
        level="answered-on-cpu",
        serial_jump=1000,
        now=NOW,
        floor=MADE_AT,
        decisions=Decisions(),
    )
    job = Job(volumes=tuple(map(str, volumes)), store="", terms=terms, full=False, lock=None)
    said = io.StringIO()
    code = run(Job.from_bytes(job.to_bytes()), Lines(said))
    command = [sys.executable, "-I", str(_VERIFIER), *map(str, volumes)]
    bare = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    second = subprocess.run(command, env=bare, capture_output=True, check=False).returncode
    return {"exit_code": code, "second_opinion": second}


def _change(volumes: list[Path], change: dict[str, Any]) -> None:
    release = volumes[change["volume"] - 1] / layout.RELEASE
    path = release / change["path"]
    if change["change"] == "gone":
        path.unlink()
    elif change["change"] == "add":
        path.write_bytes(b"more\n")
    elif change["change"] == "copy":
        shutil.copy(volumes[change.get("source_volume", change["volume"]) - 1] / "release" / change["source"], path)
    else:
        data, at = path.read_bytes(), change["at"]
        path.write_bytes(data[:at] if change["change"] == "cut" else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def digests(corpus: Path) -> str:
    """Return the list of all files with their digests, as sha256sum writes it."""
    files = sorted(path for path in corpus.rglob("*") if path.is_file() and path.name != DIGESTS)
    return "".join(f"{file_sha256(path)}  {path.relative_to(corpus).as_posix()}\n" for path in files)


def write_expected(corpus: Path) -> None:
    """Write what the readers of today say, and the list of digests."""
    found: dict[str, Any] = {name: judge(corpus, name) for name in cases(corpus)}
    found |= {
        name: judge_medium(corpus, name, corpus.with_name("scratch-m") / f"{n}") for n, name in enumerate(media(corpus))
    }
    shutil.rmtree(corpus.with_name("scratch-m"))
    (corpus / EXPECTED).write_text(json.dumps(found, indent=0, sort_keys=True) + "\n", "utf-8")
    (corpus / DIGESTS).write_text(digests(corpus), "utf-8")
    assert canonical.loads((corpus / EXPECTED).read_bytes())
