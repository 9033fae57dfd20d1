"""A second opinion on a sealed release: one file, the Python standard library and gpgv, nothing of the product.

    python3 -I verify.py --code CODE --signer FINGERPRINT --signer FINGERPRINT VOLUME...

VOLUME is where a medium is mounted (the folder that holds release/); give all volumes. CODE and the FINGERPRINTs are
on the trust sheet, which reached you apart from the medium. The ending is 0 only if all of this holds:

1. the SHA-256 of volume 1's tag manifest is CODE;
2. on every volume the tag manifest is signed by each FINGERPRINT named, and by two at least;
3. on every volume release/ holds the files that the tag manifest and the payload manifest name, and no others, and
   every byte of them is what the manifests say;
4. all volumes belong to one release and none is missing or given twice;
5. files that were cut for the volumes, put together again, and all other files, are the ones that the release's
   signed list names (metadata/N.targets.json), and attest/ holds what that list says.

It cannot see whether a newer release replaces this one, or whether a signer was revoked since: only the appliance
knows. Of a delta set it sees what is carried; what the set leaves to the site's own store it only counts. Files beside
release/ are not looked at. Endings: 0 holds, 2 usage, 10 malformed, 11 file misses, 12 extra file, 13 unsafe name or
file type, 14 wrong volume, 15 digest differs, 17 volume misses, 18 unreadable, 19 newer format, 20 bad signature,
21 signature misses.
"""

import argparse
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

BLOCK = 64 * 1024 * 1024
PART_BLOCKS = 60
CHUNK = 4 * 1024 * 1024
LARGEST_LIST = 32 * 1024 * 1024
TAGS = "tagmanifest-sha256.txt"
PAYLOAD = "manifest-sha256.txt"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~@-]*", re.ASCII)
LINE = re.compile(r"([0-9a-f]{64})  (\S+)", re.ASCII)
SIGNATURE = re.compile(r"tagmanifest-sha256\.txt\.([0-9A-F]{40})\.sig", re.ASCII)
REFUSING = {"BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NO_PUBKEY", "FAILURE", "NODATA", "UNEXPECTED"}
HASHES = {8: hashlib.sha256, 9: hashlib.sha384, 10: hashlib.sha512}


class RefusedError(Exception):
    """Something does not hold; `ending` is the exit status."""

    def __init__(self, ending: int, message: str) -> None:
        super().__init__(message)
        self.ending = ending


def main(arguments: list[str]) -> int:
    """Check the volumes and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("volumes", nargs="+", type=Path, metavar="VOLUME")
    parser.add_argument("--code", default="", help="the release code on the trust sheet")
    parser.add_argument("--signer", action="append", default=[], help="a full fingerprint on the trust sheet")
    asked = parser.parse_args(arguments)
    signers = [each.replace(" ", "").upper() for each in asked.signer]
    try:
        code, found = check(asked.volumes, code=asked.code.replace(" ", "").lower(), signers=signers)
    except RefusedError as refused:
        print(f"REFUSED: {refused}", file=sys.stderr)
        return refused.ending
    except OSError as error:
        print(f"NOT CHECKED: a file could not be read: {error.strerror}", file=sys.stderr)
        return 18
    print(f"release code  {code}")
    for fingerprint in sorted(found):
        print(f"signed by     {fingerprint}")
    print("checked       OpenPGP signatures over the tag manifests, with gpgv")
    print("not checked   signatures under metadata/ and attest/, ML-DSA among them: the appliance does")
    if asked.code and asked.signer:
        print("HOLDS: every file is what these signers sealed.")
    else:
        print("The files agree with each other. THIS PROVES NOTHING until the code and every fingerprint above")
        print("are compared with the trust sheet that reached you apart from the medium.")
    return 0


def check(volumes: list[Path], *, code: str, signers: list[str]) -> tuple[str, set[str]]:
    """Return the release code and the fingerprints that signed every volume."""
    tags = {volume: check_tags(volume / "release") for volume in volumes}
    signed = set.intersection(*(check_signatures(volume / "release", signers) for volume in volumes))
    index, ordered = check_set(volumes, tags)
    first = hashlib.sha256(read(ordered[1] / "release" / TAGS)).hexdigest()
    if code and first != code:
        raise RefusedError(15, f"the release code is {first}, not the one on the trust sheet")
    if len(signed) < max(2, len(set(signers))):
        raise RefusedError(21, "fewer than two signatures hold on every volume")
    if unseen := check_payload(index, ordered, tags[ordered[1]]):
        serials = ", ".join(str(serial) for serial in index["base"]["serials"])
        print(f"delta set     {unseen} bytes must lie in the site's store (serial {serials}); they were not seen here")
    return first, signed


def check_tags(release: Path) -> dict[str, str]:
    """Check every file outside data/ and that no other is there; return the tag manifest's entries."""
    entries = parse(read(release / TAGS), TAGS)
    payload = parse(read(release / PAYLOAD), PAYLOAD)
    if read(release / "bagit.txt") != b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n":
        raise RefusedError(19, "bagit.txt names another format")
    expected = set(entries) | set(payload) | {TAGS}
    for name in walk(release):
        if name in expected or SIGNATURE.fullmatch(name):
            expected.discard(name)
            continue
        raise RefusedError(12, f"{name} is on the medium, and no list names it")
    if expected:
        raise RefusedError(11, f"{min(expected)} is not on the medium")
    if PAYLOAD not in entries or any(name.startswith("data/") for name in entries):
        raise RefusedError(10, "the tag manifest does not list what it must")
    known = ("metadata/", "attest/", "check/")
    for name in entries:
        if name not in {"bagit.txt", "bag-info.txt", PAYLOAD} and not name.startswith(known):
            raise RefusedError(12, f"{name} has no place in this format")
    if not all(name.startswith("data/") for name in payload):
        raise RefusedError(10, "the payload manifest lists files outside data/")
    for name, digest in entries.items():
        if sha256(release / name) != digest:
            raise RefusedError(15, f"{name} is not what was sealed")
    return entries


def check_signatures(release: Path, signers: list[str]) -> set[str]:
    """Return the fingerprints whose signatures over the tag manifest hold; each signer named must be one."""
    held: set[str] = set()
    for path in sorted(release.glob(f"{TAGS}.*.sig")):
        fingerprint = path.name.split(".")[2]  # walk() let only names of this form through
        keyring = release / "check" / "signers" / f"{fingerprint}.gpg"
        if not keyring.is_file():
            raise RefusedError(20, f"no certificate comes with the signature of {fingerprint}")
        signature, data = read(path), read(release / TAGS)
        require_shape(fingerprint, signature=signature, data=data)
        gpgv(fingerprint, keyring=read(keyring), signature=signature, data=data)
        held.add(fingerprint)
    if missing := set(signers) - held:
        raise RefusedError(21, f"{min(missing)} has not signed this volume")
    return held


def require_shape(fingerprint: str, *, signature: bytes, data: bytes) -> None:
    """Pass only if the file is one version 4 signature packet and nothing in it is left to chance.

    gpgv takes about a tenth of all signature files with one changed bit: in the header, or in what is not hashed.
    """
    issuer = bytes.fromhex(fingerprint)
    wide = signature[:1] == b"\x89"  # a length of two bytes, for RSA
    size = int.from_bytes(signature[1 : 3 if wide else 2], "big")
    body = signature[3 if wide else 2 :]
    area = body[6 : 6 + 29]
    named, dated = b"\x16\x21\x04" + issuer, b"\x05\x02"
    holds = (
        signature[:1] in {b"\x88", b"\x89"}
        and (size > 255) == wide
        and size == len(body)
        and body[:3] in {b"\x04\x00\x01", b"\x04\x00\x16"}
        and body[3] in HASHES
        and body[4:6] == b"\x00\x1d"
        and ((area[:23] == named and area[23:25] == dated) or (area[:2] == dated and area[6:] == named))
        and body[35:47] == b"\x00\x0a\x09\x10" + issuer[-8:]
        and whole_numbers(body[49:], 1 if body[2] == 1 else 2)
    )
    if holds:
        digest = HASHES[body[3]](data + body[:35] + b"\x04\xff\x00\x00\x00\x23").digest()
        holds = digest[:2] == body[47:49]
    if not holds:
        raise RefusedError(20, f"the signature in the name of {fingerprint} is not in the one accepted form")


def whole_numbers(data: bytes, count: int) -> bool:
    """Tell whether data is exactly that many numbers, each with its true length in bits before it."""
    for _ in range(count):
        bits = int.from_bytes(data[:2], "big")
        number, data = data[2 : 2 + (bits + 7) // 8], data[2 + (bits + 7) // 8 :]
        if len(number) != (bits + 7) // 8 or int.from_bytes(number, "big").bit_length() != bits:
            return False
    return not data


def gpgv(fingerprint: str, *, keyring: bytes, signature: bytes, data: bytes) -> None:
    """Pass only if gpgv says one good signature by that primary key, with a strong hash, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="second-opinion-") as folder:
        names = {"k.gpg": keyring, "s.sig": signature, "d.txt": data}
        for name, content in names.items():
            (Path(folder) / name).write_bytes(content)
        command = ["gpgv", "--homedir", folder, "--ignore-time-conflict", "--status-fd", "1"]
        command += ["--keyring", f"{folder}/k.gpg", f"{folder}/s.sig", f"{folder}/d.txt"]
        done = subprocess.run(command, capture_output=True, env={"PATH": os.defpath, "LC_ALL": "C"}, check=False)
    lines = [line.split() for line in done.stdout.decode("utf-8", "replace").split("\n")]
    status = [words[1:] for words in lines if len(words) > 1 and words[0] == "[GNUPG:]"]
    valid = [words for words in status if words[0] == "VALIDSIG"]
    kinds = [words[0] for words in status]
    if (
        done.returncode != 0
        or kinds.count("NEWSIG") != 1
        or kinds.count("GOODSIG") != 1
        or len(valid) != 1
        or REFUSING & set(kinds)
        or len(valid[0]) < 11
        or valid[0][10] != fingerprint
        or int(valid[0][8]) not in HASHES
        or valid[0][9] != "00"
    ):
        raise RefusedError(20, f"the signature in the name of {fingerprint} does not hold")


def check_set(volumes: list[Path], tags: dict[Path, dict[str, str]]) -> tuple[dict[str, Any], dict[int, Path]]:
    """Check that the volumes are one release, complete; return its index and the volumes by number."""
    if any("metadata/volumes.json" not in entries for entries in tags.values()):
        raise RefusedError(10, "a volume has no index")
    texts = {read(volume / "release" / "metadata" / "volumes.json") for volume in volumes}
    if len(texts) != 1:
        raise RefusedError(14, "the volumes belong to different releases")
    index = load(texts.pop())
    if index.get("format") != 1:
        raise RefusedError(19, "the index has a newer format")
    shared = [
        {name: digest for name, digest in entries.items() if "/" in name} for entries in tags.values()
    ]  # metadata/, attest/ and check/ are the same on every volume
    if any(entries != shared[0] for entries in shared):
        raise RefusedError(14, "the volumes do not carry the same metadata")
    ids = {volume["id"]: volume["number"] for volume in index["volumes"]}
    ordered: dict[int, Path] = {}
    for path in volumes:
        info = dict(line.split(": ", 1) for line in read(path / "release" / "bag-info.txt").decode().splitlines())
        number = ids.get(info.get("Sealift-Volume-Id"))
        if number is None or number in ordered:
            raise RefusedError(14, "a volume is of another release, or given twice")
        ordered[number] = path
    if missing := sorted(set(ids.values()) - set(ordered)):
        raise RefusedError(17, f"volume {missing[0]} of {len(ids)} is not here")
    return index, ordered


def check_payload(index: dict[str, Any], ordered: dict[int, Path], tags: dict[str, str]) -> int:
    """Hash every byte below data/ once against both lists; return how many bytes a delta set leaves to the site."""
    release = {number: path / "release" for number, path in ordered.items()}
    latest = max(int(name.split("/")[1].split(".")[0]) for name in tags if name.endswith(".targets.json"))
    signed = load(read(release[1] / "metadata" / f"{latest}.targets.json"))["signed"]
    manifests = {number: parse(read(path / PAYLOAD), PAYLOAD) for number, path in release.items()}
    parts: dict[str, list[tuple[int, int, Any]]] = {}
    for volume in index["volumes"]:
        here = {part["path"]: part for part in volume["parts"]}
        if {path: part["sha256"] for path, part in here.items()} != manifests[volume["number"]]:
            raise RefusedError(10, f"the manifest of volume {volume['number']} and the index differ")
        for part in here.values():
            parts.setdefault(part["target"], []).append((part["first"], volume["number"], part))
    targets = {path: target for path, target in signed["targets"].items() if path.startswith("data/")}
    for run in index["base"]["runs"] if "base" in index else ():
        parts.setdefault(run["target"], []).append((run["first"], 0, run))
    if set(parts) - set(targets) or ("base" not in index and set(parts) != set(targets)):
        raise RefusedError(10, "the volumes and the signed list do not name the same files")
    unseen: int = sum(target["length"] for name, target in targets.items() if name not in parts)
    for name in sorted(parts):
        unseen += join(name, targets[name], sorted(parts[name], key=lambda part: part[0]), release)
    attested = {name for name in tags if name.startswith("attest/")}
    if attested != {path for path in signed["targets"] if path.startswith("attest/")}:
        raise RefusedError(10, "attest/ and the signed list do not name the same files")
    for name in attested:
        if signed["targets"][name]["hashes"]["sha256"] != tags[name]:
            raise RefusedError(15, f"{name} is not what the signed list names")
    return unseen


def join(name: str, target: dict[str, Any], parts: list[tuple[int, int, Any]], release: dict[int, Path]) -> int:
    """Compare the parts of one file, its blocks and the whole; return how many bytes are not on the medium."""
    whole, blocks, length, following, unseen = hashlib.sha256(), [], 0, 0, 0
    for first, number, part in parts:
        if first != following or (number and part["last"] - first >= PART_BLOCKS):
            raise RefusedError(10, f"the parts of {name} do not follow each other")
        following = part["last"] + 1
        if not number:  # the site's store has these blocks
            blocks += target["custom"]["blocks"][first:following]
            unseen += min(following * BLOCK, target["length"]) - first * BLOCK
            continue
        own, size = hashlib.sha256(), 0
        for block in read_blocks(release[number] / part["path"]):
            own.update(block)
            whole.update(block)
            blocks.append(hashlib.sha256(block).hexdigest())
            size += len(block)
        if own.hexdigest() != part["sha256"] or size != part["length"]:
            raise RefusedError(15, f"{part['path']} on volume {number} is not what was sealed")
        length += size
    if length + unseen != target["length"] or (not unseen and whole.hexdigest() != target["hashes"]["sha256"]):
        raise RefusedError(15, f"{name}, put together, is not what the signed list names")
    if blocks != target["custom"]["blocks"] or target["custom"]["block_size"] != BLOCK:
        raise RefusedError(15, f"the blocks of {name} are not what the signed list names")
    return unseen


def parse(data: bytes, name: str) -> dict[str, str]:
    """Return the entries of a manifest: two spaces, one line feed, names that may travel, each once."""
    entries: dict[str, str] = {}
    lines = data.decode("ascii", "replace").split("\n")
    if lines.pop() != "":
        raise RefusedError(10, f"{name} does not end in a line feed")
    for line in lines:
        matched = LINE.fullmatch(line)
        if not matched:
            raise RefusedError(10, f"{name} has a line of another form")
        safe(matched[2])
        if matched[2] in entries:
            raise RefusedError(10, f"{name} names a file twice")
        entries[matched[2]] = matched[1]
    return entries


def load(data: bytes) -> Any:
    """Return JSON whose keys are not named twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise RefusedError(10, "a signed list names a field twice")
        return dict(pairs)

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise RefusedError(10, "a signed list is not JSON") from None


def safe(name: str) -> None:
    """Refuse a name that could lead out of release/."""
    for part in name.split("/"):
        if not NAME.fullmatch(part) or part.endswith((".", "~")):
            raise RefusedError(13, "a file has a name that may not travel")


def walk(folder: Path, prefix: str = "") -> Iterator[str]:
    """Yield the names of all files below a folder; anything but folders and plain files is refused."""
    try:
        with os.scandir(folder) as opened_folder:
            entries = sorted(opened_folder, key=lambda entry: entry.name)
    except FileNotFoundError:
        raise RefusedError(11, "there is no release/ here") from None
    for entry in entries:
        name = prefix + entry.name
        safe(name)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from walk(Path(entry.path), f"{name}/")
        elif stat.S_ISREG(mode):
            yield name
        else:
            raise RefusedError(13, f"{name} is not a plain file")


def opened(path: Path) -> BinaryIO:
    """Open a plain file, never through a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RefusedError(11, f"{path.name} is not on the medium") from None
    stream = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        raise RefusedError(13, f"{path.name} is not a plain file")
    return stream


def read(path: Path) -> bytes:
    """Return a small file."""
    with opened(path) as stream:
        data = stream.read(LARGEST_LIST + 1)
    if len(data) > LARGEST_LIST:
        raise RefusedError(10, f"{path.name} is too large")
    return data


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yield a file in blocks of 64 MiB."""
    with opened(path) as stream:
        while block := stream.read(BLOCK):
            yield block


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with opened(path) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    try:
        ENDING = main(sys.argv[1:])
    except (KeyError, TypeError, ValueError, AttributeError):
        print("REFUSED: a list on the medium is malformed", file=sys.stderr)
        ENDING = 10
    sys.exit(ENDING)
