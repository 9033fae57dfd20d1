"""A box of the release before, made by that release: its source, its locked environment, its own harness.

Kept in the cache under a digest of the source. What stands in `tests/corpus/releases` is what `git archive` made of the
release's tag; docs/releasing.md says when it is changed.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

from examples.demo.people import password_of
from tests.box import lentwheel, prepared
from tests.box.box import MODEL, serve
from tests.box.operators import as_person, both_promote
from tests.box.prepared import SERVED, Served
from tests.box.run import ROOT, Run
from tests.box.scripted import policy_of_site
from tests.support.sources import last_version
from tests.support.staterows import rows_of

# What this release's own commands run under says nothing to those of another.
_OURS = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")


def take(run: Run) -> Served:
    """Put a box of the release before into the run's folder, not started; made now where the cache has none."""
    version = last_version()
    place = prepared.cache_of("released", str(version.relative_to(ROOT)))
    if not (place / SERVED).exists():
        _make(run, version, place)
    return prepared.take_from(place, run)


def goes_on(run: Run, served: Served, answer: dict[str, Any]) -> None:
    """Let this release go on with what that one left: records, proofs, people, keys, the version in production."""
    machine = run.machine
    with run.stage.chapter("This release reads what the one before left"):
        machine.run("sealift", "audit", "verify", shown=False)
        proof = machine.result("sealift", "prove", answer["request_id"])
        run.require("an answer of the version before is proven by this release", proof["ok"] is True, proof)
        written = _rows(run)
        machine.run("sealift", "state", "rebuild", shown=False)
        made = _rows(run)
        run.require("what its ledger says is the same to this one", made == written, written ^ made)
        page = run.workstation("banners", person="iris", password=password_of("iris"))
        run.require("who enrolled there logs in here", "banners" in page, page)
    serve(run, served.key, chapter="Its key is answered, its version serves")
    # The version before measured its own at another time, beside other work of this machine.
    policy_of_site(run)
    with run.stage.chapter("Its two people promote a version that this release brought"):
        machine.result(*as_person("iris", "sealift", "validate", MODEL))
        told = both_promote(machine, MODEL)
        run.require("who enrolled there promotes here", told["step"] == "serving", told)
        run.require("it is another version", told["model_digest"] != served.digest, told)
    serve(run, served.key, chapter="What it brought serves")


def _rows(run: Run) -> set[str]:
    return rows_of(run.machine.root / "var/lib/sealift/registry")


def _make(run: Run, version: Path, place: Path) -> None:
    source, made = run.out / "before", run.out / "made-before"
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    with run.stage.chapter(f"No box of {version.name} is kept: one is made by it"):
        source.mkdir(parents=True, exist_ok=True)
        # Debian 12's own Python may have no filter for what an archive holds; this one is ours.
        subprocess.run(["tar", "--extract", "--file", str(version), "--directory", str(source)], check=True)
        install = ["make", "--no-print-directory", "install"]
        subprocess.run(install, cwd=source, env=environment, check=True)
        environment["SEALIFT_CACHE"], wheel = map(str, lentwheel.cache_with_wheel(source, run.out / "cache-before"))
        run.stage.note(f"its engine's wheel: {wheel}")
        make = [str(source / ".venv/bin/python"), "-m", "tests.box.prepared", str(made)]
        subprocess.run(make, cwd=source, env=environment, check=True)
        prepared.keep_in(place, made)
