"""First trust: from a checked copy of the small part of a release to a machine that can receive it.

    python3 -I check/bootstrap.py --medium MEDIUM [--medium MEDIUM...] [--site NAME] [options of `sealift receive`]

Run it as root on a bare Debian 12, from the copy that the trust sheet's commands made and checked, never from the
medium. Give every volume; it needs nothing but Python's standard library and gpgv:

1. two people type the release code of the trust sheet, each at a prompt of their own; what is expected is never shown;
2. every file of the copy is what the tag manifest says, and enough different people signed that manifest;
3. the packages and wheels that the signed list names are copied off the medium; bytes that differ are never used;
4. python3-venv is installed from them, and an environment of wheels is built, below /opt/sealift/bootstrap;
5. the first root is pinned in /etc/sealift/trust, once and for ever; who typed the code is kept for the ledger;
6. `sealift receive` takes over, with the same media.

It may be run again: a root that is pinned already must be the same. Endings as verify.py's, and 26 the code was not
typed, 24 and 29 a box of another site or kind, 28 another root is pinned, 51 nothing could be built, 55 not root.
"""

import argparse
import base64
import datetime as dt
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

TAGS = "tagmanifest-sha256.txt"
PAYLOAD = "manifest-sha256.txt"
FIRST_ROOT = "metadata/1.root.json"
PINNED = "etc/sealift/trust/1.root.json"
SITE_FILE = "etc/sealift/sealift.toml"
COPIED = ("metadata/", "attest/", "check/")
LARGEST_LIST = 32 * 1024 * 1024
CHUNK = 4 * 1024 * 1024
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~@-]*", re.ASCII)
LINE = re.compile(r"([0-9a-f]{64})  (\S+)", re.ASCII)
SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
REFUSING = {"BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NO_PUBKEY", "FAILURE", "NODATA", "UNEXPECTED"}
STRONG_HASHES = {"8", "9", "10"}
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


class RefusedError(Exception):
    """Something does not hold: the exit status, and why."""


def main(arguments: list[str]) -> NoReturn:
    """Give first trust and let `sealift receive` take over."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--medium", action="append", required=True, type=Path, help="where a volume is mounted")
    parser.add_argument("--site", default="", help="this site's name, when the release is for several")
    parser.add_argument("--root", default="/", type=Path, help="live below this folder, without root (rehearsal)")
    asked, rest = parser.parse_known_args(arguments)
    copy = Path(__file__).resolve().parent.parent
    if (is_box := asked.root == Path("/")) and os.geteuid() != 0:
        raise RefusedError(55, "only root can pin a root of trust on this machine")
    require_copy(copy, asked.medium)
    people = ask_two_people(hashlib.sha256(read(copy / TAGS)).hexdigest())
    tags = check_copy(copy)
    roots = {number: load(read(copy / f"metadata/{number}.root.json"))["signed"] for number in root_numbers(tags)}
    signers = check_signatures(copy, roots[max(roots)])
    print(f"The copy is what was sealed, signed by {', '.join(sorted(signers.values()))}.")
    (listed,) = (name for name in tags if re.fullmatch(r"metadata/[0-9]{1,9}\.targets\.json", name))
    targets = load(read(copy / listed))["signed"]
    trusted, sites = roots[max(roots)], targets["x-sealift"]["sites"]
    environment = trusted["x-sealift-environment"]
    require_pinnable(asked.root, copy, sites, environment=environment, site=asked.site)
    site_file = place_site_file(asked.root, sites, environment, asked.site)
    program = build(asked.root, targets["targets"], asked.medium, is_box=is_box)
    if environment == "rehearsal":  # a root that is thrown away is never pinned
        rest += ["--trust-root", str(copy / FIRST_ROOT)]
    else:
        pin(asked.root, copy, targets=targets, people=people, signers=signers)
    print("First trust is given. `sealift receive` takes over.", flush=True)
    command = [str(program), "--config", str(site_file), "receive", *(str(medium) for medium in asked.medium), *rest]
    os.execve(program, command, {**CLEAN, "HOME": str(Path.home())})  # noqa: S606 - handing over is the purpose


def require_copy(copy: Path, media: list[Path]) -> None:
    """Refuse to run from a medium, and media that are not the one copied."""
    found = {read(medium / "release" / TAGS) for medium in media}
    if any(copy.is_relative_to(medium.resolve()) for medium in media):
        raise RefusedError(2, "this runs from the medium; run it from the copy that the trust sheet makes")
    if read(copy / TAGS) not in found:
        raise RefusedError(14, "the copy was made from another volume than those given")


def ask_two_people(code: str) -> tuple[str, str]:
    """Return the names of two people who each typed the release code; the expected code is never shown."""
    names: list[str] = []
    for which in ("First", "Second"):
        name = ask(f"{which} person, your name: ")
        if not name or name.casefold() in {other.casefold() for other in names}:
            raise RefusedError(26, "two different people must type the code")
        typed = re.sub(r"[\s:-]", "", ask(f"{name}, the release code on the trust sheet: ")).lower()
        if not hmac.compare_digest(typed.encode(), code.encode()):
            raise RefusedError(26, "that is not the code of this copy: stop, and ask the sender by another way")
        names.append(name)
    return names[0], names[1]


def ask(prompt: str) -> str:
    """Return one line from whoever is at the terminal, or from a pipe."""
    print(prompt, end="", flush=True)
    line = sys.stdin.readline(400)
    print(end="" if sys.stdin.isatty() else "\n")
    return "".join(character for character in line.strip() if character.isprintable())[:100]


def check_copy(copy: Path) -> dict[str, str]:
    """Check every file of the copy against the tag manifest and that no other is there; return its entries."""
    entries = parse(read(copy / TAGS), TAGS)
    if PAYLOAD not in entries or not all("/" not in name or name.startswith(COPIED) for name in entries):
        raise RefusedError(10, "the tag manifest does not list what it must")
    for name, digest in entries.items():
        if hashlib.sha256(read(copy / name)).hexdigest() != digest:
            raise RefusedError(15, f"{name} in the copy is not what was sealed")
    for path in (path for folder in COPIED for path in (copy / folder).rglob("*")):
        if (path.is_symlink() or not path.is_dir()) and path.relative_to(copy).as_posix() not in entries:
            raise RefusedError(12, f"{path.name} is in the copy, and no list names it")
    return entries


def root_numbers(tags: Mapping[str, str]) -> list[int]:
    """Return the versions of the roots in the copy: from 1 on, none missing."""
    found = sorted(int(m[1]) for name in tags if (m := re.fullmatch(r"metadata/([0-9]{1,9})\.root\.json", name)))
    if not found or found != list(range(1, len(found) + 1)):
        raise RefusedError(11, "the roots in the copy do not follow each other from the first")
    return found


def check_signatures(copy: Path, root: Mapping[str, Any]) -> dict[str, str]:
    """Return name by fingerprint of the people whose signatures hold, at least as many as the root demands."""
    data = read(copy / TAGS)
    held: dict[str, str] = {}
    owners: set[str] = set()
    for person in root["x-sealift-people"]:
        if "release" not in person["roles"]:
            continue  # the others may have no OpenPGP key at all
        fingerprint = person["openpgp"]["fingerprint"]
        path = copy / f"{TAGS}.{fingerprint}.sig"
        if not re.fullmatch(r"[0-9A-F]{40}", fingerprint) or not path.exists():
            continue
        certificate = base64.b64decode(person["openpgp"]["certificate"], validate=True)
        gpgv(fingerprint, keyring=certificate, signature=read(path), data=data)
        held[fingerprint] = person["name"]
        owners.add(person["id"])
    if min(len(owners), len(held)) < max(2, int(root["roles"]["targets"]["threshold"])):
        raise RefusedError(21, "fewer different people signed than the root demands")
    return held


def gpgv(fingerprint: str, *, keyring: bytes, signature: bytes, data: bytes) -> None:
    """Pass only if gpgv says one good signature by that primary key, with a strong hash, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="first-trust-") as folder:
        for name, content in {"k.gpg": keyring, "s.sig": signature, "d.txt": data}.items():
            (Path(folder) / name).write_bytes(content)
        command = ["gpgv", "--homedir", folder, "--ignore-time-conflict", "--status-fd", "1"]
        command += ["--keyring", f"{folder}/k.gpg", f"{folder}/s.sig", f"{folder}/d.txt"]
        done = subprocess.run(command, capture_output=True, env=CLEAN, check=False)
    lines = [line.split() for line in done.stdout.decode("utf-8", "replace").split("\n")]
    status = [words[1:] for words in lines if len(words) > 1 and words[0] == "[GNUPG:]"]
    valid = [words for words in status if words[0] == "VALIDSIG"]
    kinds = [words[0] for words in status]
    if (
        done.returncode != 0
        or [kinds.count(kind) for kind in ("NEWSIG", "GOODSIG", "VALIDSIG")] != [1, 1, 1]
        or REFUSING & set(kinds)
        or len(valid[0]) < 11
        or valid[0][10] != fingerprint
        or valid[0][8] not in STRONG_HASHES
        or valid[0][9] != "00"
    ):
        raise RefusedError(20, f"the signature in the name of {fingerprint} does not hold")


def place_site_file(root: Path, sites: list[str], environment: str, site: str) -> Path:
    """Return the site file; write the shortest one when there is none, for the site that the release is for."""
    path = root / SITE_FILE
    if path.exists():
        return path
    chosen = site or (sites[0] if len(sites) == 1 else "")
    if chosen not in sites or not SITE.fullmatch(chosen):
        raise RefusedError(2, f"say which site this is, with --site: {', '.join(sites)}")
    section = "[service]\ntls = true" if root == Path("/") else f"[places]\nroot = {json.dumps(str(root.resolve()))}"
    text = f'format = 1\nsite = "{chosen}"\nenvironment = "{environment}"\n\n{section}\n'
    make_folder(path.parent)
    path.write_text(text)
    path.chmod(0o644)
    print(f"A first site file was written for {chosen}; networks and names are for the site to fill in.")
    return path


def require_pinnable(root: Path, copy: Path, sites: list[str], *, environment: str, site: str) -> None:
    """Refuse a box where another root is pinned, or of another kind or site: what is pinned stays for ever."""
    pinned, site_file = root / PINNED, root / SITE_FILE
    if pinned.exists() and pinned.read_bytes() != read(copy / FIRST_ROOT):
        raise RefusedError(28, "another root is pinned on this machine; it is never replaced")
    if not site_file.exists():
        return
    facts = tomllib.loads(site_file.read_text("utf-8", "replace"))
    if facts.get("environment") != environment:
        raise RefusedError(29, f"the root is for {environment}, the site file says {facts.get('environment')}")
    if facts.get("site") not in sites or site not in {"", facts.get("site")}:
        raise RefusedError(24, f"the release is for {', '.join(sites)}, the site file says {facts.get('site')}")


def build(root: Path, targets: Mapping[str, Any], media: list[Path], *, is_box: bool) -> Path:
    """Build the environment that receives and installs, from the medium's own wheels; return its program."""
    staging = root / "var/lib/sealift/bootstrap"
    shutil.rmtree(staging, ignore_errors=True)
    make_folder(staging)

    def take(name: str) -> Path:
        return copy_out(name, targets[name], media, staging / name)

    lists = json.loads(take("data/release.json").read_bytes())["environments"]
    requirements = take(lists["host" if is_box else "server"])
    listed = requirements.read_text()
    for name in sorted(name for name in targets if name.startswith("data/wheels/")):
        if targets[name]["hashes"]["sha256"] in listed:
            take(name)
    tried = subprocess.run([sys.executable, "-I", "-c", "import ensurepip, venv"], capture_output=True, check=False)
    if is_box and tried.returncode != 0:
        install_packages([take(name) for name in sorted(targets) if name.startswith("data/debs/")])
    environment = root / "opt/sealift/bootstrap"
    shutil.rmtree(environment, ignore_errors=True)
    make_folder(environment.parent)
    run(sys.executable, "-I", "-m", "venv", environment)
    pip = (environment / "bin/python", "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "--quiet")
    exact = ("--no-index", "--find-links", staging / "data/wheels", "--no-deps", "--require-hashes", "--no-cache-dir")
    run(*pip, "install", *exact, "--only-binary=:all:", "--requirement", requirements)
    shutil.rmtree(staging)
    program = environment / "bin/sealift"
    if is_box:
        Path("/usr/local/bin/sealift").unlink(missing_ok=True)
        Path("/usr/local/bin/sealift").symlink_to(program)
    print("The environment is built from the medium's wheels, every byte as listed.")
    return program


def install_packages(packages: list[Path]) -> None:
    """Install python3-venv from packages that were checked while they were copied; no other source is asked."""
    if not packages:
        raise RefusedError(51, "python3-venv is not installed, and the release carries no Debian packages")
    folder = packages[0].parent
    sources = folder.parent / "sources.list"
    sources.write_text(f"deb [trusted=yes] file:{folder} ./\n")
    options = ("-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=-", "-qq")
    run("apt-get", *options, "update")
    run("apt-get", *options, "install", "--yes", "--no-install-recommends", "python3-venv")


def copy_out(name: str, target: Mapping[str, Any], media: list[Path], place: Path) -> Path:
    """Copy one file off the medium that has it, hashing what is written; return where it lies now."""
    if not all(NAME.fullmatch(part) for part in name.split("/")):
        raise RefusedError(13, "a file has a name that may not travel")
    if not (source := next((file for medium in media if (file := medium / "release" / name).exists()), None)):
        raise RefusedError(17, f"{name} is on no volume given; give every volume of a full set, with --medium")
    make_folder(place.parent)
    digest, length = hashlib.sha256(), 0
    with opened(source) as stream, place.open("xb") as copy:
        while (chunk := stream.read(CHUNK)) and length <= target["length"]:
            digest.update(chunk)
            copy.write(chunk)
            length += len(chunk)
    if length != target["length"] or digest.hexdigest() != target["hashes"]["sha256"]:
        place.unlink()
        raise RefusedError(15, f"{name} on the medium is not what the signed list names")
    return place


def pin(
    root: Path, copy: Path, *, targets: Mapping[str, Any], people: tuple[str, str], signers: Mapping[str, str]
) -> None:
    """Write the first root where it stays, and keep the fact for the ledger."""
    pinned, content = root / PINNED, read(copy / FIRST_ROOT)
    if pinned.exists():
        return
    make_folder(pinned.parent)
    now = dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {
        "release": targets["x-sealift"]["release"],
        "serial": targets["version"],
        "code": hashlib.sha256(read(copy / TAGS)).hexdigest(),
        "root_sha256": hashlib.sha256(content).hexdigest(),
        "people": list(people),
        "signers": sorted(signers),
        "how": "bootstrap",
    }
    fact = {"format": 1, "kind": "trust.pinned", "at": now, "body": body}
    text = json.dumps(fact, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    spool = root / "var/lib/sealift/spool"
    make_folder(spool)
    for old in spool.glob("000001-*.json"):
        if b'"kind":"trust.pinned"' in read(old):
            old.unlink()  # from a run that ended before the root was in place
    write_once(spool / f"000001-{secrets.token_hex(4)}.json", text.encode(), mode=0o660)
    write_once(pinned, content, mode=0o444)


def write_once(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file whole or not at all, on the disk before it has its name."""
    partial = path.with_name(f".{path.name}.new")
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    os.link(partial, path)
    partial.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, for everyone to read."""
    for folder in (folder for folder in [*reversed(path.parents), path] if not folder.exists()):
        folder.mkdir()
        folder.chmod(0o755)


def run(*command: str | Path) -> None:
    """Run a program with a clean environment."""
    done = subprocess.run([str(part) for part in command], capture_output=True, env=CLEAN, check=False, umask=0o022)
    if done.returncode != 0:
        told = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        raise RefusedError(51, f"{Path(str(command[0])).name} failed: {told[-1] if told else done.returncode}")


def parse(data: bytes, name: str) -> dict[str, str]:
    """Return the entries of a manifest: two spaces, one line feed, names that may travel, each once."""
    entries: dict[str, str] = {}
    lines = data.decode("ascii", "replace").split("\n")
    if lines.pop() != "":
        raise RefusedError(10, f"{name} does not end in a line feed")
    for line in lines:
        matched = LINE.fullmatch(line)
        if not matched or not all(NAME.fullmatch(part) for part in matched[2].split("/")) or matched[2] in entries:
            raise RefusedError(10, f"{name} has a line of another form")
        entries[matched[2]] = matched[1]
    return entries


def load(data: bytes) -> Any:
    """Return JSON whose keys are not named twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise RefusedError(10, "a signed list names a field twice")
        return dict(pairs)

    return json.loads(data.decode("utf-8"), object_pairs_hook=once)


def opened(path: Path) -> Any:
    """Open a plain file, never through a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RefusedError(11, f"{path.name} is not there") from None
    stream = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        raise RefusedError(13, f"{path.name} is not a plain file")
    return stream


def read(path: Path) -> bytes:
    """Return a small file."""
    with opened(path) as stream:
        data: bytes = stream.read(LARGEST_LIST + 1)
    if len(data) <= LARGEST_LIST:
        return data
    raise RefusedError(10, f"{path.name} is too large")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RefusedError as refused:
        print(f"REFUSED: {refused.args[1]}", file=sys.stderr)
        sys.exit(refused.args[0])
    except (KeyError, TypeError, ValueError, AttributeError):
        print("REFUSED: a list in the copy, or the site file, is malformed", file=sys.stderr)
        sys.exit(10)
    except OSError as error:
        print(f"NOT DONE: {error.strerror}", file=sys.stderr)
        sys.exit(18)
