"""Freezes records of kinds that no box's walk makes, by commands of a released version that need no box.

Run by the environment of that version, with its source as it was released before this checkout's on the path
(`tests/corpus/README.md`): ``python make_records.py FOLDER``. A site of real processes with engines of a few lines goes
through what the commands of people, keys, rollouts, stops, certificates, retention, backups and evidence do. Each must
end well. No file of keys and no password is taken along.
"""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from appliance.store.content import ContentStore, StoredRelease
from media import signers
from tests.support.backups import recipient
from tests.support.commands import Run
from tests.support.medium import make_medium
from tests.support.promoting import PEOPLE, homes_of_people, serve
from tests.support.rollout_site import by_process, rollout_site, running_gateway
from tests.support.running_site import RunningSite
from tests.support.versions import short_folder

KEPT: Final = (
    *("etc/sealift/ledger.pub", "etc/sealift/trust/*.json", "proof.json"),
    *("var/lib/sealift/ledger/ledger.db", "var/lib/sealift/ledger/ledger.lock", "var/lib/sealift/registry/state.db"),
    *("var/lib/sealift/promoter/people.json", "var/lib/sealift/promoter/promotions/*.json"),
)
LISTED: Final = "SHA256SUMS"
SITE: Final = 'format = 1\nsite = "demo-clinic"\nenvironment = "demo"\nprofile = "cpu"\n[policy]\nrequest = "release"\n'
_WHY: Final = ("--reason", "to be frozen")
_EVA, _FINN = PEOPLE


class Walk:
    """The site's commands, each of which must end with the code that is said."""

    def __init__(self, site: RunningSite) -> None:
        self._run: Run = by_process(site)
        self.root = site.root
        self.password = ("--password-file", str(site.root / "password"))

    def __call__(self, *words: object, code: int = 0, stdin: str | None = None) -> dict[str, Any]:
        """Run a command and return what it said as JSON."""
        ended = self._run("--json", *map(str, words), stdin=stdin)
        if ended.code != code:
            raise SystemExit(f"error: {words} ended with {ended.code}: {ended.out[-600:]}{ended.err[-600:]}")
        found: dict[str, Any] = {}
        with suppress(ValueError):
            found = json.loads(ended.out)
        return found

    def by(self, person: str, *words: object, **more: Any) -> dict[str, Any]:
        """Run a command that a person answers for by a password, with a reason."""
        return self(*words, "--as", person, *_WHY, *self.password, **more)

    def told(self, person: str, *words: object, **more: Any) -> dict[str, Any]:
        """Run a command that names a person and a reason, and asks for no password."""
        return self(*words, "--as", person, *_WHY, **more)


def _answered(site: RunningSite, key: str) -> str:
    """Ask the gateway, once with a key that is none, and rate an answer; return the id of an answer's request."""

    def ask(path: str, body: Mapping[str, Any], by: str) -> tuple[bytes, str]:
        headers = {"Authorization": f"Bearer {by}", "content-type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as response:  # noqa: S310 - of this loopback
            return response.read(), str(response.headers.get("x-request-id"))

    chat = {"model": "production", "messages": [{"role": "user", "content": "hello"}]}
    with running_gateway(site) as port:
        found = [ask("/v1/chat/completions", {**chat, "user": f"user-{number}"}, key)[1] for number in range(5)]
        with suppress(urllib.error.HTTPError):
            ask("/v1/chat/completions", chat, "sl-none")
        ask("/v1/feedback", {"request_id": found[0], "rating": "up"}, key)
    return found[0]


def _rollouts(walk: Walk, run: Run, second: str, homes: Mapping[str, Path]) -> None:
    terms = ("--percent", "20", "--hours", "48", "--watch-hours", "48")
    walk("canary", "start", second, *terms)
    for what in ("hold", "resume"):
        walk.by(_EVA, "canary", what)
    walk("canary", "judge")
    walk.by(_EVA, "canary", "abort")
    serve(run, second, dict(homes))
    walk.by(_EVA, "rollback")


def _stops(walk: Walk, first: str, key: str, homes: Mapping[str, Path], run: Run) -> None:
    walk.by(_EVA, "stop", "--key", key)
    walk.by(_FINN, "stop", "--key", key, "--lift")
    walk.by(_EVA, "stop")
    for one in walk("review", "list")["open"]:
        walk("review", "done", one["sequence"], "--as", _FINN, "--note", "seen", *walk.password)
    serve(run, first, dict(homes))


def _people(walk: Walk) -> None:
    both = ("--by", _EVA, "--by", _FINN, *walk.password, *walk.password)
    invited = walk("people", "invite", *both)
    code = str(invited.get("code") or invited["codes"][0])
    home = walk.root / "g"
    signers.generate_key(home, "Gil Aho", "gil-aho@site.example")
    brought = ("--name", "Gil Aho", "--gnupg-home", home, *walk.password)
    walk("people", "enrol", "--code", code, *brought)
    walk("people", "roles", "gil-aho", "--role", "approver", *both)
    walk("people", "enrol", "--code", "AAAA-AAAA-AAAA-AAAA", *brought, code=46)
    again = walk("people", "reset", "gil-aho", *both)
    walk("people", "enrol", "--code", again["code"], "--id", "gil-aho", *brought)
    # By itself: where releases have this in a module, it is another one from release to release.
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True, capture_output=True)
    walk.by(_EVA, "people", "revoke", "gil-aho")
    walk(
        *("automation", "create", "--name", "nightly", "--as", _EVA, "--scope", "read", "--days", "3"),
        *("--purpose", "to be frozen", *walk.password),
    )
    walk.by(_EVA, "automation", "revoke", "nightly")
    lent = walk.by(_EVA, "emergency", "begin", "radiology", "--hours", "2")
    walk.by(_EVA, "emergency", "end", lent["number"])


def _policy(walk: Walk, homes: Mapping[str, Path]) -> None:
    file = walk.root / "ward.toml"
    own = f'[[override]]\nkey = "injection.followed_millis"\nperson = "{_EVA}"\nreason = "letters"\n'
    file.write_text(f'format = 1\nname = "ward"\n[injection]\nfollowed_millis = 350\n{own}')
    asked = walk.told(_EVA, "policy", "import", file)
    for person, home in homes.items():
        walk("policy", "approve", asked["statement"][:12], "--as", person, "--gnupg-home", home, "--yes")


def _versions(walk: Walk, first: str, second: str) -> None:
    walk.by(_EVA, "models", "hold", second)
    walk.by(_FINN, "models", "lift", second)
    walk("stage", "load", first, "--as", _EVA)
    walk("stage", "unload", first, "--as", _EVA)
    walk.by(_EVA, "models", "delete", second)
    walk("models", "collect")


def _keys(walk: Walk, key: str, other: str) -> None:
    walk("canary", "keep-out", other, *_WHY)
    walk("keys", "revoke", other, *_WHY)
    walk("box-keys", "rotate", "content-hmac", *_WHY)
    walk("tls", "rotate")
    walk("tls", "request", "--out", walk.root / "request.pem")
    walk("tls", "clients", "issue", "radiology-viewer", "--out", walk.root / "viewer", "--key", key)
    walk("tls", "clients", "revoke", "radiology-viewer", "--reason", "superseded")
    walk("tls", "authority", "next")
    walk("tls", "authority", "switch")
    walk("tls", "authority", "finish", "--drop-clients")


def _evidence(walk: Walk, request: str, first: str) -> None:
    names = walk.root / "names.csv"
    names.write_text("name\nAnna Muster\nBeat Beispiel\n")
    walk("census", "import", names, "--column", "name", "--as", _EVA)
    walk.told(_EVA, "census", "forget")
    held = walk.told(_EVA, "retention", "hold", request)
    walk.told(_EVA, "retention", "release", held["hold"])
    walk.told(_EVA, "retention", "erase", stdin="patient-1\n")
    walk("retention", "run")
    walk("affected", "--version", first, "--out", walk.root / "affected.json", "--as", _EVA, *_WHY)
    walk("audit", "export", walk.root / "exported")
    walk("export", "inventory", "--to", walk.root, "--quick", "--yes")
    walk("export", "figures", "--quarter", "2026Q3", "--to", walk.root, "--yes")
    walk("readiness", "--out", walk.root / "ready.html", code=52)  # no machine is installed here
    walk("prove", request, "--out", walk.root / "proof.json")


def _upkeep(walk: Walk, certificate: bytes) -> None:
    (walk.root / "recipient.gpg").write_bytes(certificate)
    walk("backup", "recipient", walk.root / "recipient.gpg", "--by", "Ann Old", "--by", "Ben Young")
    walk("backup", "make")
    walk("drill")
    walk("scrub")
    walk("network", "test", code=79)  # the machine that freezes has more addresses than a site file names
    walk("standby", "card", "--name", "a", "--to", walk.root / "card.json")
    walk("audit", "checkpoint")


def _media(walk: Walk, site: RunningSite) -> None:
    """A medium of two volumes comes one after another, and one that was spoilt is refused."""
    medium = make_medium(site.root / "third", serial=3, volumes=2)
    walk("receive", medium.volumes[0], code=17)
    walk("receive", *medium.volumes)
    walk("receive", *medium.volumes, "--full")
    volume = "0123456789abcdef"
    way = ("--from", "Ann Old", "--to", "Ben Young", "--at", "2026-11-20 09:00", "--place", "gate")
    walk(
        "custody", "enter", "--volume", volume, *way, "--by", "Ben Young", "--seal", "S-0001-1", "--condition", "whole"
    )
    walk("custody", "reject", "--volume", volume, "--by", "Ben Young", *_WHY)
    spoilt = make_medium(site.root / "fourth", serial=4)
    weights = max(
        (path for path in spoilt.volumes[0].rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    walk("receive", *spoilt.volumes, code=15)


def _damage(walk: Walk, site: RunningSite) -> None:
    """A file of the version in the store rots, is set aside, and is put back."""
    stored = StoredRelease.load(ContentStore(site.config.at.store), 1)
    (weights,) = (one for path, one in stored.files.items() if path.endswith("weights.gguf"))
    place = ContentStore(site.config.at.store).object_path(weights.sha256)
    place.chmod(0o600)
    whole = place.read_bytes()
    place.write_bytes(whole[:-1] + b"?")
    walk("scrub", "--set-aside", "--by", "Ann Old", *_WHY, code=31)
    place.write_bytes(whole)
    walk("scrub")


def freeze(root: Path, folder: Path) -> None:
    """Copy what is kept of a site that was ended."""
    folder.mkdir(parents=True)
    (folder / "etc/sealift").mkdir(parents=True)
    (folder / "etc/sealift/sealift.toml").write_text(SITE)
    for pattern in KEPT:
        for path in sorted(root.glob(pattern)):
            place = folder / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    (folder / LISTED).write_text("".join(sums))


def main() -> None:
    """Walk, and freeze what the walk left."""
    (out,) = map(Path, sys.argv[1:])
    with homes_of_people() as homes, short_folder() as root, recipient() as offline:
        (root / "disk").mkdir()
        with rollout_site(root / "s", homes) as (site, run, first, second):
            with site.config.at.config_file.open("a") as stream:
                stream.write(f'[backup]\nfolder = "{root / "disk"}"\non_system_disk = true\n')
            walk = Walk(site)
            made = [
                walk("keys", "create", "--department", name, "--owner", "test") for name in ("radiology", "surgery")
            ]
            request = _answered(site, str(made[0]["key"]))
            _rollouts(walk, run, second, homes)
            _stops(walk, first, str(made[1]["key_id"]), homes, run)
            _people(walk)
            _policy(walk, homes)
            _versions(walk, first, second)
            _keys(walk, str(made[0]["key_id"]), str(made[1]["key_id"]))
            _evidence(walk, request, first)
            _upkeep(walk, offline.certificate())
            _media(walk, site)
            _damage(walk, site)
            for name in ("promoter", "ledger"):
                site.end(name, signal.SIGTERM)
            freeze(site.root, out)


if __name__ == "__main__":
    main()
