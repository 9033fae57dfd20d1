"""A security update on a box that serves: what Debian's security archive has newer than the box, by a medium.

Its packages are those that the archive really has newer today than the box was made of, as the box's own list of
packages says: Debian 12's main archive, which the box is made from, gets no point release any more, its security
archive goes on. The model, its engine and the server's code stay.
"""

import re
import shutil
from typing import Any, Final

from tests.box import looks
from tests.box.box import serve
from tests.box.operators import as_person, both_approve
from tests.box.prepared import Served
from tests.box.run import ROOT, Run, wait_for_engine
from tests.box.sender import RECIPE, make_release

_UPDATE: Final = ROOT / "examples/security-update.toml"
_STATUS: Final = "var/lib/dpkg/status"
_LIST: Final = "debian-12.status"
_PACKAGE: Final = re.compile(r"^([a-z0-9][a-z0-9+.-]*)_([^_]+)_[a-z0-9]+\.deb$")


def all_of_it(run: Run, served: Served, medium: str) -> None:
    """Make the update for this very box, carry it, install it, and see that what serves is as before."""
    machine = run.machine
    before = serve(run, served.key, chapter="An answer of before the update")
    before_it = _unwell(run)
    wanted = _made(run)
    was = _versions(run, wanted)
    run.require("the security archive has something newer than the box", len(wanted) > 0)
    run.require("none of it is there yet", not any(was.get(name) == version for name, version in wanted.items()), was)
    with run.stage.chapter("Two people approve the update, and it is installed"):
        machine.run("sealift", "receive", medium)
        plan = machine.result(*as_person("iris", "sealift", "install", "2", "--plan", "--as", "iris"))
        run.require("the update changes the host", plan["changes_host"] is True, plan)
        both_approve(machine, plan)
        facts = _installed(run, wanted, was)
        run.require("the update is installed", (facts["serial"], facts["previous"]) == (2, 1), facts)
        run.require("each package is as the archive has it", _versions(run, wanted) == wanted, _versions(run, wanted))
        run.require("and again an update changes nothing", machine.result("sealift", "install")["changed"] is False)
        wait_for_engine(run)
        old = {unit: _old_files(run, unit) for unit in ("nginx.service", "sealift-gateway.service")}
        run.require("what answers maps nothing that the update replaced", not any(old.values()), old)
    after = serve(run, served.key, chapter="It serves after the update")
    proofs = [machine.result("sealift", "prove", one["request_id"]) for one in (before, after)]
    run.require("answers of before and after it are proven", all(one["ok"] for one in proofs), proofs)
    (version,) = (one for one in machine.result("sealift", "models", "list")["versions"] if one["alias"])
    run.require("the version in production is the one of before", version["model_digest"] == served.digest, version)
    new = _unwell(run) - before_it
    run.require("doctor finds nothing new after the update", not new, new)


def _installed(run: Run, wanted: dict[str, str], was: dict[str, str]) -> dict[str, Any]:
    """Install the update as an approver, or as root at the console where it brings programs with the set-user-ID bit.

    What the archive has newer today decides which of both: the unit that installs may make no such file (ADR 52).
    """
    words = as_person("omar", "sealift", "install", "2")
    told = run.machine.told(*words)
    if "error" not in told:
        return told
    run.require("only the set-user-ID bit keeps the unit from it", "set-user-ID" in told["error"]["what"], told)
    run.require("and nothing was changed", _versions(run, wanted) == was)
    return run.machine.result("sealift", "install", "2", "--here")


def _old_files(run: Run, unit: str) -> list[str]:
    """Return the files of packages that a unit's first process maps and that are no more, as one that was replaced."""
    told = run.machine.run("cat", f"/proc/{looks.main_process(run, unit)}/maps", shown=False).stdout
    return [line for line in told.splitlines() if re.search(r" /(?:usr/|s?bin/|lib)\S* \(deleted\)$", line)]


def _unwell(run: Run) -> set[str]:
    return {name for name, found in looks.findings(run).items() if found["is_good"] is False}


def _made(run: Run) -> dict[str, str]:
    """Make the update and its medium; return the version of each package that it brings."""
    out = run.out / "release-2"
    out.mkdir(exist_ok=True)
    shutil.copy(run.machine.root / _STATUS, out / _LIST)
    text = _UPDATE.read_text()
    for pattern, now in (
        (r"(?m)^serial = 3 ", "serial = 2 "),
        (r"(?m)^base = 2 ", "base = 1 "),
        (r"(?m)^packages = \[.*\]\n", ""),
    ):
        text, changes = re.subn(pattern, now, text)
        run.require("the example of an update is as it was", changes == 1, pattern)
    (out / "recipe.toml").write_text(text)
    with run.stage.chapter("A security update for this box: build, rehearse, sign, write"):
        recipe, ceremony = out / "recipe.toml", run.out / "ceremony"
        volume = make_release(run.stage, out, recipe=recipe, ceremony=ceremony, base=RECIPE).volume
    names = [path.name for path in sorted(volume.rglob("data/debs/*.deb"))]
    found = [one for name in names if (one := _PACKAGE.match(name))]
    run.require("each package that it brings is named as Debian names them", len(found) == len(names), names)
    return {one[1]: one[2].replace("%3a", ":") for one in found}


def _versions(run: Run, names: Any) -> dict[str, str]:
    words = ("dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *names)
    told = run.machine.run(*words, shown=False, may_fail=True).stdout  # one that is not there yet is no failure
    return dict(line.split(" ", 1) for line in told.splitlines())
