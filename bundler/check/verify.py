"""A second opinion on a sealed release and on a ledger: one file, the standard library and gpgv, nothing of ours.

    python3 -I verify.py --code CODE --signer FINGERPRINT --signer FINGERPRINT VOLUME...
    python3 -I verify.py ledger [--key KEY] [--printed FILE]... FOLDER
    python3 -I verify.py proof [--key KEY] [--printed FILE]... FILE
    python3 -I verify.py list [--key KEY] [--printed FILE]... FILE

MEDIA. VOLUME is where a medium is mounted (the folder that holds release/); give all volumes. CODE and the FINGERPRINTs
are on the trust sheet, which reached you apart from the medium. The ending is 0 only if all of this holds:

1. the SHA-256 of volume 1's tag manifest is CODE;
2. on every volume the tag manifest is signed by each FINGERPRINT named, and by two at least;
3. on every volume release/ holds the files that tag and payload manifest name, and no others, each byte as they say;
4. all volumes belong to one release and none is missing or given twice;
5. files that were cut for the volumes, put together again, and all other files, are the ones that the release's
   signed list names (metadata/N.targets.json), and attest/ holds what that list says.

Only the appliance knows whether a newer release replaces this one, or a signer was revoked since. What a delta set
leaves to the site's own store is only counted. Files beside release/ are not looked at.

LEDGER. FOLDER is what `sealift audit export` wrote. The ending is 0 only if the folder holds the files that it should,
each record lies at its place without a gap in the tree (RFC 6962) whose head the ledger's key signed, every checkpoint
in the folder and every one given as --printed lies in that tree, the reports of time and of erasure are what the
records say, and the ledger itself recorded this export. Take this file from a medium whose code you know, not from the
box that is looked into. Who has root and the key can rewrite what no checkpoint from outside covers: NOT COVERED.

PROOF. FILE is what `sealift prove --out` wrote about one answer. Where it, or FOLDER, comes from a mirror that another
box held, that box's key as a further --key covers what it took, and when.

LIST. FILE is what `sealift affected --out` wrote: answers that a version, a release, a medium, a signer or an approver
touched. Each must lie in the signed tree, and be one that was asked for by what other records there say.

Endings: 0 holds, 2 usage, 10 malformed, 11 file misses, 12 extra file, 13 unsafe name or file type, 14 wrong volume,
15 digest differs, 17 volume misses, 18 unreadable, 19 newer format, 20 bad signature, 21 signature misses,
91 the records contradict what was signed.
"""

import argparse
import binascii
import bisect
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

if sys.version_info < (3, 10) or not hasattr(os, "O_NOFOLLOW"):
    print("NOT CHECKED: this needs Python 3.10 or newer, and Linux or macOS (on Windows: WSL)", file=sys.stderr)
    sys.exit(18)
BLOCK = 64 * 1024 * 1024
PART_BLOCKS = 60
CHUNK = 4 * 1024 * 1024
LARGEST_LIST = 32 * 1024 * 1024
DEEPEST = 100
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", nargs="+", type=Path, metavar="VOLUME")
    parser.add_argument("--code", default="", help="the release code on the trust sheet")
    parser.add_argument("--signer", action="append", default=[], help="a full fingerprint on the trust sheet")
    asked = parser.parse_args(arguments)
    code, signers = "".join(asked.code.split()).lower(), ["".join(each.split()).upper() for each in asked.signer]
    return told(lambda: media_lines(asked.volumes, code, signers))


def media_lines(volumes: list[Path], code: str, signers: list[str]) -> list[str]:
    """Return what holds of a release; anything that does not is refused."""
    found, signed = check(volumes, code=code, signers=signers)
    lines = [f"release code  {found}", *(f"signed by     {fingerprint}" for fingerprint in sorted(signed))]
    lines.append("checked       OpenPGP signatures over the tag manifests, with gpgv")
    lines.append("not checked   signatures under metadata/ and attest/, ML-DSA among them: the appliance does")
    if code and signers:
        return [*lines, "HOLDS: every file is what these signers sealed."]
    lines.append("The files agree with each other. THIS PROVES NOTHING until the code and every fingerprint above")
    return [*lines, "are compared with the trust sheet that reached you apart from the medium."]


def told(check_all: Callable[[], list[str]]) -> int:
    """Print what was found, or why it is refused, so that no terminal obeys it, and return the exit status."""
    try:
        lines = check_all()
    except RefusedError as refused:
        print(f"REFUSED: {ascii(str(refused))[1:-1]}", file=sys.stderr)
        return refused.ending
    except OSError as error:
        name = Path(str(error.filename or "a file")).name
        failed = "gpgv could not be run" if name == "gpgv" else f"{ascii(name)[1:-1]} could not be read"
        print(f"NOT CHECKED: {failed}: {error.strerror}", file=sys.stderr)
        return 18
    for line in lines:
        print("".join(each if each.isprintable() else ascii(each)[1:-1] for each in line))
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
        serials = ", ".join(ascii(serial) for serial in index["base"]["serials"])
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
        if name not in expected and not SIGNATURE.fullmatch(name):
            raise RefusedError(12, f"{name} is on the medium, and no list names it")
        expected.discard(name)
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
        for name, content in {"k.gpg": keyring, "s.sig": signature, "d.txt": data}.items():
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
        or [kinds.count(kind) for kind in ("NEWSIG", "GOODSIG", "VALIDSIG")] != [1, 1, 1]
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
    # metadata/, attest/ and check/ are the same on every volume
    shared = [{name: digest for name, digest in entries.items() if "/" in name} for entries in tags.values()]
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
            raise RefusedError(13, f"a file has a name that may not travel: {name[:200]}")


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
        if stat.S_ISDIR(mode) and name.count("/") < DEEPEST:
            yield from walk(Path(entry.path), f"{name}/")
        elif stat.S_ISREG(mode):
            yield name
        else:
            raise RefusedError(13, f"{name[:200]} is not a plain file, or lies too deep")


def opened(path: Path) -> BinaryIO:
    """Open a plain file, never through a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RefusedError(11, f"{path.name} is not here") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise RefusedError(13, f"{path.name} is not a plain file")
    return os.fdopen(descriptor, "rb")


def read(path: Path, most: int = LARGEST_LIST) -> bytes:
    """Return a small file."""
    with opened(path) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
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


# ---------------------------------------------------------------------------------------------------------------------
# The ledger: exports that an auditor was handed, and the proof of one answer. Nothing below is used for media.
# ---------------------------------------------------------------------------------------------------------------------

LEDGER_FORMAT = 2  # and of proofs and lists 1; one more where a key was rotated, so that an older checker says why
LARGEST_OF_ANSWERS = 256 * 1024 * 1024  # and of all checkpoints of a ledger: some hundred each day, for years
SIGNED_LINE = re.compile("\u2014 ([^ +]+) ([A-Za-z0-9+/]+={0,2})")
FIRST_KINDS = {"ledger.opened", "ledger.restored"}
KEY_KIND = "ledger.key"
ROTATED_KIND = "ledger.key-rotated"
COSIGNED_KIND = "ledger.cosigned"
TAKEN_KIND = "standby.imported"
ERASING = {"erasure.done", "retention.expired"}
ED25519 = b"\x01"
ML_DSA_87 = b"\xffsealift/ml-dsa-87\n"
NOT_RECORDED = "no record in the ledger names this export: only leaves and checkpoints are covered"


def ledger(arguments: list[str]) -> int:
    """Check a folder that `sealift audit export` wrote, and return the exit status."""
    asked = asked_for("ledger", arguments)
    return told(lambda: export_lines(asked.file, asked.key, asked.printed, unrecorded=asked.unrecorded))


def proof(arguments: list[str]) -> int:
    """Check a file that `sealift prove --out` wrote, and return the exit status."""
    asked = asked_for("proof", arguments)
    return told(lambda: proof_lines(asked.file, asked.key, asked.printed))


def affected(arguments: list[str]) -> int:
    """Check a file that `sealift affected --out` wrote, and return the exit status."""
    asked = asked_for("list", arguments)
    return told(lambda: list_lines(asked.file, asked.key, asked.printed, unrecorded=asked.unrecorded))


def asked_for(door: str, arguments: list[str]) -> argparse.Namespace:
    """Return what was asked on the command line."""
    parser = argparse.ArgumentParser(prog=f"verify.py {door}")
    parser.add_argument("file", type=Path, metavar="FOLDER" if door == "ledger" else "FILE")
    parser.add_argument("--key", action="append", default=[], help="the ledger's key, as it came apart from this")
    parser.add_argument("--printed", action="append", default=[], type=Path, help="a checkpoint, printed or sent")
    if door != "proof":
        parser.add_argument("--unrecorded", action="store_true", help="accept what no record of the ledger names")
    return parser.parse_args(arguments)


def export_lines(folder: Path, keys: list[str], printed: list[Path], *, unrecorded: bool) -> list[str]:
    """Return what holds of an export; anything that does not is refused."""
    about = check_files(folder)
    proofs = canonical(read(folder / "proofs.json"), "proofs.json")
    start, end, size = about["start"], about["end"], about["size"]
    if (proofs["start"], proofs["end"], proofs["size"]) != (start, end, size) or not 0 <= start <= end <= size:
        raise RefusedError(91, "export.json and proofs.json are about different records")
    walk = Walk(start, size, [unhex(each) for each in proofs["before"]])
    outside = [leaf_of(kept["raw"].encode()) for kept in proofs["records"]]
    for leaf in outside:
        if leaf["sequence"] < start:
            walk.note_keys(leaf)
    listed = [load(line)["size"] for line in read(folder / "checkpoints.jsonl", LARGEST_OF_ANSWERS).splitlines()]
    wanted = {end, *listed, *(note_size(printed_note(path)) for path in printed)}
    with opened(folder / "leaves.jsonl") as stream:
        twice = [leaf_of(line.rstrip(b"\n"))["body"] for line in stream if COSIGNED_KIND.encode() in line]
        wanted |= {note_size(str(body.get("note"))) for body in twice}
        stream.seek(0)
        for line in stream:
            walk.take(line, wanted)
    if walk.size != end:
        raise RefusedError(91, f"{walk.size - start} records are here, and export.json says {end - start}")
    for leaf in outside:
        if leaf["sequence"] >= end:
            walk.note_keys(leaf)
    require_format(about, LEDGER_FORMAT, walk)
    root = walk.close(end, size, [unhex(each) for each in proofs["after"]])
    check_records(proofs["records"], size, root)
    given = [Key(text) for text in keys]
    named = named_keys(read(folder / "ledger.pub").decode("ascii").strip(), given, walk)
    head = signed_head(read(folder / "checkpoint.txt").decode(), list(walk.keys.values()), by=named[-1])
    if (head.origin, head.size, head.root) != (walk.origin_at(size), size, root):
        raise RefusedError(91, "the records are not those that the checkpoint signed")
    roots = {**walk.roots, size: root}
    for one in proofs["checkpoints"]:
        roots[one["size"]] = older_root(one, size, root)
    require_rotated(walk, roots)
    lines = walk.lines(folder, start, end)
    signed_sizes = check_own_checkpoints(folder, walk, roots)
    lines.append(f"checkpoints   {len(signed_sizes)} of this ledger lie in the tree, each signed by its key")
    lines += cosigned_lines(walk, roots, start)
    newest, held = 0, list[str]()
    if "mirror.json" in about["files"]:
        held, newest = mirror_lines(canonical(read(folder / "mirror.json"), "mirror.json"), head, roots, given)
    count = len(printed) + bool(newest)
    for path in printed:
        newest = max(newest, check_printed(path, walk, given, roots, size))
    lines = [*held, *lines, *outside_lines(newest, size, count)]
    lines += recorded_lines(folder, about, walk, head, named, unrecorded=unrecorded)
    lines.append(f"signed by     {', '.join(head.signers)}")
    lines.append(f"origin        {head.origin}, {size} records, root {root.hex()}")
    return [*lines, *verdict(named, pinned=bool(given))]


def check_files(folder: Path) -> dict[str, Any]:
    """Check that the folder holds exactly the files that export.json names, each with its digest."""
    about = canonical(read(folder / "export.json"), "export.json")
    if about.get("format") not in (LEDGER_FORMAT, LEDGER_FORMAT + 1):
        raise RefusedError(19, "export.json has another format")
    expected = {*about["files"], "export.json", *(["exported.json"] if about["recorded"] else [])}
    found = set(walk_flat(folder))
    if extra := sorted(found - expected):
        raise RefusedError(12, f"{extra[0]} is here, and export.json does not name it")
    if missing := sorted(expected - found):
        raise RefusedError(11, f"{missing[0]} is not here")
    for name, digest in about["files"].items():
        if sha256(folder / name) != digest:
            raise RefusedError(15, f"{name} is not what was exported")
    return about


def walk_flat(folder: Path) -> Iterator[str]:
    """Yield the names in a folder; anything but plain files is refused."""
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise RefusedError(13, f"{entry.name!r} is not a plain file")
        yield entry.name


class Walk:
    """The tree and what the records say, grown record by record from the tree of `start` records."""

    def __init__(self, start: int, size: int, before: list[bytes]) -> None:
        self.size, self.total = start, size
        levels = [level for level in range(size.bit_length(), -1, -1) if start >> level & 1]
        if len(levels) != len(before):
            raise RefusedError(91, "what is said of the records before is not a tree")
        self.stack = list(zip(levels, before, strict=True))
        self.roots: dict[int, bytes] = {0: hashlib.sha256().digest()}
        if start:
            self.roots[start] = self.root()
        self.keys: dict[str, Key] = {}
        self.chains: dict[str, list[Key]] = {}
        self.rotated: dict[int, bytes] = {}
        self.origins: list[tuple[int, str]] = []
        self.times: list[dict[str, Any]] = []
        self.starts: list[dict[str, Any]] = []
        self.erased: list[dict[str, Any]] = []
        self.second: Key | None = None
        self.unvouched: list[int] = []
        self.cosigned: list[tuple[str, Key | None]] = []
        self.first = self.last = ""

    def take(self, line: bytes, wanted: set[int]) -> None:
        """Add one record: its line without the line feed is what is hashed."""
        if not line.endswith(b"\n"):
            raise RefusedError(91, f"record {self.size} is cut off")
        raw = line[:-1]
        leaf = leaf_of(raw)
        if leaf["sequence"] != self.size:
            raise RefusedError(91, f"record {self.size} says that it is {leaf['sequence']}")
        self.note_keys(leaf)
        if self.size in self.rotated:
            self.roots[self.size] = self.root()  # held against what both keys signed
        if leaf["origin"] != self.origin_at(self.size + 1):
            raise RefusedError(91, f"record {self.size} is of another ledger")
        if leaf["kind"] == "ledger.restored" and self.size:
            before = {"origin": self.origin_at(self.size), "size": self.size, "root": self.root().hex()}
            if leaf["body"]["continues"] != before:
                raise RefusedError(91, f"the restore at record {self.size} continues another tree")
        self.push(0, hashlib.sha256(b"\x00" + raw).digest())
        self.size += 1
        if self.size in wanted:
            self.roots[self.size] = self.root()
        self.note_times(leaf)
        if leaf["kind"] == COSIGNED_KIND and leaf["via"]["door"] == "ledger":
            self.cosigned.append((leaf["body"]["note"], self.second))
        if leaf["kind"] in ERASING:
            about = {name: leaf[name] for name in ("sequence", "time", "kind")}
            self.erased.append({**about, **leaf["body"]})

    def root(self) -> bytes:
        """Return the root of what was added so far."""
        return folded([each for _, each in self.stack])

    def origin_at(self, size: int) -> str:
        """Return what the ledger called itself when it had so many records; a restore goes on under a new name."""
        names = [name for begin, name in sorted(self.origins) if begin < size]
        return names[-1] if names else ""

    def push(self, level: int, value: bytes) -> None:
        """Add one complete subtree at the right."""
        while self.stack and self.stack[-1][0] == level:
            value, level = hashlib.sha256(b"\x01" + self.stack.pop()[1] + value).digest(), level + 1
        self.stack.append((level, value))

    def close(self, end: int, size: int, after: list[bytes]) -> bytes:
        """Return the root of the whole tree, with the subtrees that follow the range."""
        place = end
        for value in after:
            level = 0
            while not place >> level & 1 and place + (2 << level) <= size:
                level += 1
            self.push(level, value)
            place += 1 << level
        if place != size:
            raise RefusedError(91, "what is said of the records after is not a tree")
        return self.root()

    def note_keys(self, leaf: dict[str, Any]) -> None:
        """Take the keys that the ledger's own records name; a new one is signed by the one before."""
        if leaf["via"]["door"] != "ledger" or leaf["kind"] not in {*FIRST_KINDS, KEY_KIND, ROTATED_KIND}:
            return
        key = Key(leaf["body"]["vkey"])
        if leaf["kind"] in FIRST_KINDS:
            if key.name != leaf["origin"] or (leaf["kind"] == "ledger.opened") != (leaf["sequence"] == 0):
                raise RefusedError(91, f"record {leaf['sequence']} begins no ledger")
            self.origins.append((leaf["sequence"], leaf["origin"]))
            self.begin_chain(leaf, key)
        elif leaf["kind"] == ROTATED_KIND:
            self.rotate(leaf, key)
        elif key.kind != "ML-DSA-87":
            raise RefusedError(91, f"record {leaf['sequence']} names a key of another kind")
        else:
            self.follow(leaf, key)
        self.keys[key.text] = key

    def follow(self, leaf: dict[str, Any], key: "Key") -> None:
        """Take a key of the second signature: the newest before it signed it, or it is said that nobody did."""
        old, before = self.second, leaf["body"]["previous"]
        text = f"sealift/ledger-key\n{leaf['origin']}\n{key.text}\n".encode()
        signed = old is not None and old.text == before and old.verifies(base64(leaf["body"]["signature"]), text)
        if key.name != leaf["origin"] or (before and not signed):
            raise RefusedError(20, f"the key of record {leaf['sequence']} is not signed by the one before")
        if not before and old is not None and old.name == key.name:
            self.unvouched.append(leaf["sequence"])
        self.second = key

    def begin_chain(self, leaf: dict[str, Any], key: "Key") -> None:
        """Take the first key of an epoch; no key comes back."""
        if key.public in [each.public for each in self.keys.values()] or leaf["origin"] in self.chains:
            raise RefusedError(91, f"record {leaf['sequence']} names a key or a ledger of before")
        self.chains[leaf["origin"]] = [key]

    def rotate(self, leaf: dict[str, Any], key: "Key") -> None:
        """Let a key follow the newest one; both signed that over the tree before the record. Each signs its own sizes.

        At the size of the tree that ends with the record both may sign; no larger tree is the older one's.
        """
        place, chain = leaf["sequence"], self.chains[leaf["origin"]]
        text, _, tail = leaf["body"]["note"].rpartition("\n\n")
        origin, size, root, following = text.split("\n")
        said = (origin, size, following, leaf["body"]["previous"], key.name, key.kind)
        expected = (leaf["origin"], str(place), f"sealift/next-key {key.text}", chain[-1].text, origin, "Ed25519")
        if said != expected or key.public in [each.public for each in self.keys.values()] or place < chain[-1].begin:
            raise RefusedError(91, f"record {place} rotates no key of this ledger")
        lines = tail.split("\n")
        for maker, line in zip([chain[-1], key], lines, strict=False):
            match = SIGNED_LINE.fullmatch(line)
            blob = base64(match[2]) if match and match[1] == maker.name else b""
            signed = blob[:4] == maker.id and maker.verifies(blob[4:], f"{text}\n".encode())
            if not signed or len(lines) != 3 or lines[2]:
                raise RefusedError(20, f"the key of record {place} is not signed by the one before, and itself")
        chain[-1].end = key.begin = place + 1
        chain.append(key)
        self.rotated[place] = base64(root)

    def note_times(self, leaf: dict[str, Any]) -> None:
        """Note where the clock went back, and each start of the ledger."""
        if leaf["time"] < self.last:
            self.times.append({"sequence": leaf["sequence"], "from": self.last, "to": leaf["time"]})
        if leaf["kind"] == "ledger.started":
            boot = leaf["body"].get("boot_id", "")
            self.starts.append({"sequence": leaf["sequence"], "time": leaf["time"], "boot_id": boot})
        self.first, self.last = self.first or leaf["time"], leaf["time"]

    def lines(self, folder: Path, start: int, end: int) -> list[str]:
        """Return what the records say of time and erasure, which must be what the export says of them."""
        times = {"first": self.first, "last": self.last, "steps_back": self.times, "starts": self.starts}
        for name, found in (("times.json", times), ("redactions.json", {"erased": self.erased})):
            if canonical(read(folder / name), name) != found:
                raise RefusedError(91, f"{name} is not what the records say")
        boots = len({each["boot_id"] for each in self.starts})
        lines = [f"records       {end - start}, from {start} to {end - 1}, without a gap"]
        lines.append(f"time          {self.first} to {self.last}; {len(self.starts)} starts in {boots} boots")
        lines += [f"clock back    at {each['sequence']}: {each['from']} to {each['to']}" for each in self.times]
        lines += [f"erased        {each['kind']} at {each['sequence']}, {each['time']}" for each in self.erased]
        return lines


def named_keys(text: str, given: list["Key"], walk: Walk) -> list["Key"]:
    """Return the keys that follow each other in the epoch of the key beside the records; one of them must be given."""
    chain = walk.chains.get(Key(text).name, [])
    if given and not {each.text for each in given} & {text, *(each.text for each in chain)}:
        raise RefusedError(21, "the key beside the records is not one of those you gave, and follows none of them")
    if text not in [each.text for each in chain]:
        raise RefusedError(21, "no record of the ledger names the key beside it")
    return chain


def require_rotated(walk: Walk, roots: dict[int, bytes]) -> None:
    """Pass only if each key was rotated over the records that are here: who has the newest alone rewrites nothing."""
    for size, root in walk.rotated.items():
        if roots.get(size) != root:
            raise RefusedError(91, f"record {size} rotated the key of other records than those before it")


def require_format(about: dict[str, Any], least: int, walk: Walk) -> None:
    """Pass only if the format is the one that what is here must have."""
    if about["format"] != least + bool(walk.rotated):
        raise RefusedError(19, "this is of another format than its records need")


def check_records(records: list[dict[str, Any]], size: int, root: bytes) -> None:
    """Check that single records lie in the tree at the places they say."""
    for kept in records:
        raw = kept["raw"].encode()
        require_included(raw, kept["sequence"], size, [unhex(each) for each in kept["hashes"]], root)
        if leaf_of(raw)["sequence"] != kept["sequence"]:
            raise RefusedError(91, f"record {kept['sequence']} says it is another")


def check_own_checkpoints(folder: Path, walk: Walk, roots: dict[int, bytes]) -> list[int]:
    """Check every checkpoint in the export; return their sizes."""
    sizes = []
    for line in read(folder / "checkpoints.jsonl", LARGEST_OF_ANSWERS).decode().splitlines():
        one = load(line.encode())
        head = signed_head(one["note"], list(walk.keys.values()))
        if head.size != one["size"] or roots.get(head.size) != head.root or head.origin != walk.origin_at(head.size):
            raise RefusedError(91, f"the checkpoint of {one['size']} records signed another tree")
        sizes.append(head.size)
    if sizes != sorted(set(sizes)):
        raise RefusedError(91, "the checkpoints are not in order")
    return sizes


def cosigned_lines(walk: Walk, roots: dict[int, bytes], start: int) -> list[str]:
    """Check the checkpoints that were signed twice and recorded."""
    for text, second in walk.cosigned:
        twice = signed_head(text, list(walk.keys.values()))
        if roots.get(twice.size, b"" if twice.size >= start else twice.root) != twice.root:
            raise RefusedError(91, f"the second signature of {twice.size} records is over another tree")
        if second is None or f"{second.kind} {second.id.hex()}" not in twice.signers:
            raise RefusedError(91, f"the checkpoint of {twice.size} records lacks the second signature of that time")
    said = "and the one before did not sign that"
    lines = [f"second key    replaced at record {place}, {said}" for place in walk.unvouched]
    count = len(walk.cosigned)
    return lines + ([f"second        {count} checkpoints are signed by ML-DSA-87 too"] if count else [])


def check_printed(path: Path, walk: Walk, given: list["Key"], roots: dict[int, bytes], size: int) -> int:
    """Check that a checkpoint from outside lies in the tree; return its size."""
    head = signed_head(printed_note(path), [*walk.keys.values(), *given])
    if head.size > size:
        raise RefusedError(91, f"{path.name} signed {head.size} records, and the ledger has {size}: it was cut back")
    if head.origin != walk.origin_at(head.size):
        raise RefusedError(91, f"{path.name} is of another ledger, or of records that a restore lost")
    if head.size not in roots:
        raise RefusedError(2, f"no proof for {head.size} records is here; export with --printed {path.name}")
    if roots[head.size] != head.root:
        raise RefusedError(91, f"INCONSISTENT: the first {head.size} records are not those that {path.name} signed")
    return head.size


def outside_lines(newest: int, size: int, count: int) -> list[str]:
    """Return what the checkpoints from outside cover, and what nothing covers."""
    if not count:
        return ["NOT COVERED   no checkpoint from outside was given: who holds the key may have rewritten all of it"]
    lines = [f"from outside  {count} checkpoints agree: records 0 to {newest - 1} are those of then"]
    if newest < size:
        lines.append(f"NOT COVERED   records {newest} to {size - 1} are newer than any checkpoint from outside")
    return lines


def recorded_lines(
    folder: Path, about: dict[str, Any], walk: Walk, head: "Head", named: list["Key"], *, unrecorded: bool
) -> list[str]:
    """Check the ledger's own record of this export, which covers every byte of it."""
    if not about["recorded"]:
        if not unrecorded:
            raise RefusedError(21, f"{NOT_RECORDED}; accept that with --unrecorded")
        return [f"NOT COVERED   {NOT_RECORDED}"]
    leaf = own_record(canonical(read(folder / "exported.json"), "exported.json"), walk, head, named)
    if leaf["kind"] != "evidence.exported" or leaf["body"]["export_sha256"] != sha256(folder / "export.json"):
        raise RefusedError(15, "the record of the export names another one")
    count = len(about["files"]) + 1
    return [f"recorded      as {leaf['sequence']}, {leaf['time']}: all {count} files are the ones that were exported"]


def own_record(kept: dict[str, Any], walk: Walk, head: "Head", named: list["Key"]) -> dict[str, Any]:
    """Return the ledger's record of what is checked: it lies in a later tree, which continues the one of before."""
    later = signed_head(kept["checkpoint"], list(walk.keys.values()), by=named[-1])
    raw = kept["record"].encode()
    leaf = leaf_of(raw)
    path = [unhex(each) for each in kept["hashes"]]
    require_included(raw, leaf["sequence"], later.size, path, later.root)
    require_continued(head, later, [unhex(each) for each in kept["continues"]])
    return leaf


def verdict(named: list["Key"], *, pinned: bool) -> list[str]:
    """Return the last lines: whether this proves something."""
    rotated = [f"key rotated   {len(named) - 1} times in this epoch, each time signed by the one before"]
    if pinned:
        return [*rotated[: len(named) - 1], "HOLDS: these are the records that the key you gave signed."]
    return [
        *(f"key           {each.text}" for each in named),
        "The records agree with each other. THIS PROVES NOTHING until the key above is compared with the one",
        "that reached you apart from them (--key).",
    ]


def proof_lines(file: Path, keys: list[str], printed: list[Path]) -> list[str]:
    """Return what holds of the proof of one answer; anything that does not is refused."""
    about = canonical(read(file), file.name)
    if about.get("format") not in (1, 2) or about.get("type") != "sealift/proof-of-answer":
        raise RefusedError(19, "this is no proof of an answer, or of another format")
    given = [Key(text) for text in keys]
    leaves: dict[int, dict[str, Any]] = {}
    walk = Walk(0, 0, [])
    for kept in about["records"]:
        leaves[kept["sequence"]] = leaf_of(kept["raw"].encode())
    for _, leaf in sorted(leaves.items()):
        walk.note_keys(leaf)
    named = named_keys(about["key"], given, walk)
    head = signed_head(about["checkpoint"], list(walk.keys.values()), by=named[-1])
    check_records(about["records"], head.size, head.root)
    roots = check_prints(about, head, walk, given, printed)
    lines = mirror_lines(about["mirror"], head, roots, given)[0] if "mirror" in about else []
    lines += [f"records       {len(leaves)} lie in the tree of {head.size} that {', '.join(head.signers)} signed"]
    lines += answer_lines(about, leaves)
    return [*lines, *verdict(named, pinned=bool(given))]


def mirror_lines(
    about: dict[str, Any], head: "Head", roots: dict[int, bytes], given: list["Key"]
) -> tuple[list[str], int]:
    """Return whose records these are, who held them, and how many it recorded that it took, where its key is given."""
    leaves = [leaf_of(kept["raw"].encode()) for kept in sorted(about["records"], key=lambda each: each["sequence"])]
    walk = Walk(0, 0, [])
    for leaf in leaves:
        walk.note_keys(leaf)
    named = named_keys(about["key"], [], walk)
    holder = signed_head(about["checkpoint"], list(walk.keys.values()), by=named[-1])
    check_records(about["records"], holder.size, holder.root)
    require_rotated(walk, {one["size"]: older_root(one, holder.size, holder.root) for one in about["continues"]})
    lines = [f"mirror        the records of {head.origin} as {holder.origin} held them, up to {head.size}"]
    mine = [leaf for leaf in leaves if leaf["kind"] == TAKEN_KIND and leaf["body"]["sender"] == head.origin]
    said: dict[str, Any] = mine[-1]["body"] if mine else {"size": head.size, "root": head.root.hex()}
    if {**roots, head.size: head.root}.get(said["size"], b"").hex() != said["root"]:
        raise RefusedError(91, "INCONSISTENT: the box that held them took other records than these")
    if not mine or not {each.text for each in given} & {each.text for each in named}:
        return [*lines, "NOT COVERED   when they were taken: give that box's key as a further --key"], 0
    place = f"by record {mine[-1]['sequence']} there"
    return [*lines, f"taken         the first {said['size']} at {mine[-1]['time']}, {place}"], said["size"]


def check_prints(
    about: dict[str, Any], head: "Head", walk: Walk, given: list["Key"], printed: list[Path]
) -> dict[int, bytes]:
    """Return the roots of trees that this one continues: each over which a key was rotated, and each from outside."""
    require_format(about, 1, walk)
    roots = {one["size"]: older_root(one, head.size, head.root) for one in about["continues"]} | {head.size: head.root}
    require_rotated(walk, roots)
    for path in printed:
        other = signed_head(printed_note(path), [*walk.keys.values(), *given])
        if other.size not in roots:
            raise RefusedError(2, f"the file does not reach {path.name}; make it with --printed")
        if roots[other.size] != other.root:
            what = "INCONSISTENT: the ledger is not" if other.origin in walk.chains else "another ledger is"
            raise RefusedError(91, f"{what} the one that {path.name} signed")
    return roots


def list_lines(file: Path, keys: list[str], printed: list[Path], *, unrecorded: bool) -> list[str]:
    """Return what holds of a list of answers; anything that does not is refused."""
    about = canonical(read(file, LARGEST_OF_ANSWERS), file.name)
    if about.get("format") not in (1, 2) or about.get("type") != "sealift/affected-answers":
        raise RefusedError(19, "this is no list of answers, or of another format")
    given, said, walk = [Key(text) for text in keys], about["list"], Walk(0, 0, [])
    raws = {kept["sequence"]: kept["raw"].encode() for kept in about["records"]}
    leaves = {place: leaf_of(raw) for place, raw in sorted(raws.items())}
    if [kept["sequence"] for kept in about["records"]] != [leaf["sequence"] for leaf in leaves.values()]:
        raise RefusedError(91, "the records are not in order, or one says that it is another")
    for leaf in leaves.values():
        walk.note_keys(leaf)
    named = named_keys(about["key"], given, walk)
    head = signed_head(about["checkpoint"], list(walk.keys.values()), by=named[-1])
    hashes = [unhex(each) for each in reversed(about["hashes"])]
    lie = all(type(place) is int and 0 <= place < head.size for place in leaves)
    if not lie or root_around(list(leaves), raws, hashes, 0, head.size) != head.root or hashes:
        raise RefusedError(91, "the records do not lie in the signed tree")
    if (said["origin"], said["size"], said["root"]) != (head.origin, head.size, head.root.hex()):
        raise RefusedError(91, "the list was made of another tree")
    check_prints(about, head, walk, given, printed)
    why = [leaf for leaf in leaves.values() if leaf["kind"] != "request.intent"]
    if said["answers"] != [entry_of(leaf) for leaf in leaves.values() if is_meant(leaf, said, why)]:
        raise RefusedError(91, "the list is not of the records that were asked for")
    times = "".join(f", {name} {said[name]}" for name in ("since", "until") if said[name])
    lines = [f"asked for     {said['by']} {said['value']}{times}, of {said['site']} at {said['at']}"]
    lines.append(f"answers       {len(said['answers'])}, each in the tree")
    if about["recorded"] is None:
        if not unrecorded:
            raise RefusedError(21, "no record in the ledger names this list; accept that with --unrecorded")
        lines.append("NOT COVERED   no record in the ledger names this list")
    else:
        leaf = own_record(about["recorded"], walk, head, named)
        digest = hashlib.sha256(written(said)).hexdigest()
        if (leaf["kind"], leaf["body"]["list_sha256"]) != ("evidence.listed", digest):
            raise RefusedError(15, "the record of the list names another one")
        lines.append(f"recorded      as {leaf['sequence']}, {leaf['time']}")
    lines.append("NOT COVERED   that no answer was left out: an export of all records shows it")
    return [*lines, *verdict(named, pinned=bool(given))]


def root_around(places: list[int], raws: dict[int, bytes], hashes: list[bytes], begin: int, end: int) -> bytes:
    """Return the root over some records; what lies between them is given as hashes, the next one last."""
    first = bisect.bisect_left(places, begin)
    if first == bisect.bisect_left(places, end):
        return hashes.pop()
    if end - begin == 1:
        return hashlib.sha256(b"\x00" + raws[begin]).digest()
    middle = begin + (1 << (end - begin - 1).bit_length() - 1)
    left = root_around(places, raws, hashes, begin, middle)
    return hashlib.sha256(b"\x01" + left + root_around(places, raws, hashes, middle, end)).digest()


def entry_of(leaf: dict[str, Any]) -> dict[str, Any]:
    """Return what a list says of the beginning of an answer."""
    names = ("request_id", "department", "key_id", "user_hash", "model_digest", "arm")
    return {**{name: leaf["body"].get(name) or "" for name in names}, "sequence": leaf["sequence"], "at": leaf["time"]}


def is_meant(leaf: dict[str, Any], said: dict[str, Any], why: list[dict[str, Any]]) -> bool:
    """Tell whether a record is the beginning of an answer that was asked for, by what the other records say."""
    if leaf["kind"] != "request.intent" or not said["since"] <= leaf["time"] < (said["until"] or "9999"):
        return False
    by, value, digest = said["by"], said["value"], leaf["body"].get("model_digest")
    if by == "version":
        return bool(digest == value)
    if by == "approver":
        last = [one["body"] for one in why if one["sequence"] < leaf["sequence"] and approved(one) == digest][-1:]
        return any(value in (one["person"], one["fingerprint"]) for body in last for one in body["approvals"])
    received = [one["body"] for one in why if one["kind"] == "release.received"]
    serials = {body["serial"] for body in received if value in SELECTED_BY[by](body)}
    brought = [one["body"] for one in why if one["kind"] == "model.registered" and one["body"]["serial"] in serials]
    return digest in [body["model_digest"] for body in brought] or leaf["body"].get("serial") in serials


def approved(leaf: dict[str, Any]) -> str:
    """Return the version that people approved for production by a record, or nothing."""
    if leaf["kind"] == "promotion.canary-started":
        return str(leaf["body"]["terms"]["version"])
    made = leaf["kind"] == "promotion.made" or (leaf["kind"] == "promotion.cut-over" and "approvals" in leaf["body"])
    return str(leaf["body"]["model_digest"]) if made else ""


SELECTED_BY: dict[str, Callable[[dict[str, Any]], set[str]]] = {
    "release": lambda body: {str(body["serial"]), body["release"], body["code"]},
    "medium": lambda body: {one[name] for one in body["volumes"] for name in ("id", "tagmanifest_sha256")},
    "signer": lambda body: {
        one[name] for one in [*body["signers"], *body.get("metadata_signers", [])] for name in ("person", "fingerprint")
    },
}


def answer_lines(about: dict[str, Any], leaves: dict[int, dict[str, Any]]) -> list[str]:
    """Return the line from the answer to its origin, each record found by what the one before names."""

    def one(kind: str, *, before: int = 2**53, **fields: Any) -> dict[str, Any]:
        for leaf in (leaves[place] for place in sorted(leaves, reverse=True) if place < before):
            if leaf["kind"] == kind and all(leaf["body"].get(name) == value for name, value in fields.items()):
                return leaf
        raise RefusedError(91, f"no record {kind} fits what the records before it say")

    asked = one("request.intent", request_id=about["request"])
    ended = one("request.outcome", request_id=about["request"], intent_sequence=asked["sequence"])
    version = asked["body"]["model_digest"]
    registered = one("model.registered", before=asked["sequence"], model_digest=version)
    received = one("release.received", serial=registered["body"]["serial"])
    release = received["body"]
    if asked["body"].get("stage") == "test":  # nobody promoted it for this answer
        lent = one("stage.loaded", before=asked["sequence"], model_digest=version)
        how = f"test stage    record {lent['sequence']}, {lent['time']}, loaded by {lent['body']['person']}"
    else:
        made = promotion_of(version, asked["sequence"], leaves)
        when = made["time"] + (f", line {made['body']['line']}" if "line" in made["body"] else "")
        how = f"promoted      record {made['sequence']}, {when}; approved by {', '.join(approvers(made, leaves))}"
    doubts = [one for _, one in sorted(leaves.items()) if one["kind"] == "trust.doubted"]  # the first and the newest
    is_doubted = doubts and all(version in one["body"]["model_digests"] for one in doubts)
    said = f", in doubt since {doubts[0]['time']}" if is_doubted else ""
    return [
        f"asked         record {asked['sequence']}, {asked['time']}, key {asked['body'].get('key_id')}",
        f"answered      record {ended['sequence']}, {ended['time']}, {ended['body']['outcome']}",
        f"version       {version}, weights {registered['body']['weights_digest']}{said}",
        f"release       {release['release']}, serial {release['serial']}, received {received['time']}",
        f"              release code {release['code']}: check its medium with verify.py --code",
        how,
    ]


def promotion_of(version: str, before: int, leaves: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return the newest promotion of a version before a record."""
    for sequence, leaf in sorted(leaves.items(), reverse=True):
        if sequence < before and approved(leaf) == version:
            return leaf
    raise RefusedError(91, "the version was not promoted before it answered")


def approvers(made: dict[str, Any], leaves: dict[int, dict[str, Any]]) -> list[str]:
    """Check each approval's signature with gpgv against the certificate of a person enrolled before; return names."""
    statement = made["body"]["statement"].encode()
    if load(statement)["model_digest"] != approved(made):
        raise RefusedError(91, "what was approved is another version")
    certificates: dict[tuple[str, str], bytes] = {}
    for _, leaf in sorted(leaves.items()):
        body = leaf["body"]
        if leaf["sequence"] >= made["sequence"] or not leaf["kind"].startswith("person."):
            continue
        if leaf["kind"] in {"person.revoked", "person.reset", "person.renewed"}:  # what was enrolled before ended
            certificates = {whose: each for whose, each in certificates.items() if whose[0] != body["person"]}
        if "certificate" in body:  # format 1: one OpenPGP certificate, named by the approvals
            certificates[body["person"], ""] = base64(body["certificate"])
        for each in body.get("credentials", []):
            if each["class"] == "openpgp":
                certificates[body["person"], each["fingerprint"]] = base64(each["key"])
    found = {}
    for each in made["body"]["approvals"]:
        person, fingerprint = each["person"], each["fingerprint"]
        if each.get("class", "openpgp") != "openpgp":
            found[person] = f"{person} by {each['class']}, which is not checked here"
            continue
        certificate = certificates.get((person, fingerprint), certificates.get((person, "")))
        if certificate is None:
            raise RefusedError(21, "an approver is not enrolled before the promotion")
        signature = base64(each["signature"])
        require_shape(fingerprint, signature=signature, data=statement)
        gpgv(fingerprint, keyring=certificate, signature=signature, data=statement)
        found[person] = f"{person} ({fingerprint[-16:]}, checked with gpgv)"
    if len(found) < 2:
        raise RefusedError(21, "fewer than two people approved the version")
    return sorted(found.values())


class Head:
    """A signed tree head: origin, size, root, and the names of the keys whose signatures hold."""

    def __init__(self, text: str, signers: list[str]) -> None:
        origin, size, root, last = text.split("\n")
        if last or not re.fullmatch("0|[1-9][0-9]{0,18}", size, re.ASCII) or len(base64(root)) != 32:
            raise RefusedError(10, "a checkpoint is not in its form")
        self.origin, self.size, self.root, self.signers = origin, int(size), base64(root), signers


def signed_head(text: str, keys: list["Key"], *, by: "Key | None" = None) -> Head:
    """Return the head in a signed note; every signature in it must be by a known key, and Ed25519 among them.

    What is believed in the end must be signed `by` the key from outside: the others are known from records only.
    """
    body, _, tail = text.rpartition("\n\n")
    if not body or not tail.endswith("\n"):
        raise RefusedError(10, "a checkpoint is no signed note")
    body += "\n"
    signers: dict[str, str] = {}
    held: list[Key] = []
    for line in tail[:-1].split("\n"):
        match = SIGNED_LINE.fullmatch(line)
        blob = base64(match[2]) if match else b""
        known = [key for key in keys if match and key.name == match[1] and key.id == blob[:4]]
        if not known:
            raise RefusedError(21, "a checkpoint is signed by a key that no record names")
        if not known[0].verifies(blob[4:], body.encode()):
            raise RefusedError(20, f"the signature of {known[0].name} does not hold")
        signers[known[0].kind] = f"{known[0].kind} {known[0].id.hex()}"
        held.append(known[0])
    head = Head(body, sorted(signers.values()))
    if "Ed25519" not in signers or any(key.name != head.origin for key in held):
        raise RefusedError(21, "a checkpoint lacks its Ed25519 signature, or another ledger's key made it")
    for key in held:
        if not key.begin <= head.size <= key.end:
            raise RefusedError(21, f"the key {key.id.hex()} had ended or not begun when it signed {head.size} records")
    if by is not None and by.text not in [key.text for key in held]:
        raise RefusedError(21, "the checkpoint is not signed by the ledger's key")
    return head


def printed_note(path: Path) -> str:
    """Return a checkpoint from outside, without what an editor puts before it and a copy behind it."""
    try:
        return path.read_text("utf-8-sig").rstrip() + "\n"
    except UnicodeDecodeError:
        raise RefusedError(10, f"{path.name} is not text in UTF-8") from None


def note_size(text: str) -> int:
    """Return the size that a checkpoint's text names, before anything of it is believed."""
    words = text.split("\n")
    return int(words[1]) if len(words) > 2 and words[1].isdecimal() else -1


class Key:
    """A verifier key: NAME+ID+BASE64 of a kind and the public key (C2SP signed notes)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.name, _, rest = text.partition("+")
        wanted, _, encoded = rest.partition("+")
        material = base64(encoded)
        for mark, kind, length in ((ED25519, "Ed25519", 32), (ML_DSA_87, "ML-DSA-87", 2592)):
            if material.startswith(mark) and len(material) == len(mark) + length:
                self.kind, self.public = kind, material[len(mark) :]
                break
        else:
            raise RefusedError(10, "a key is of no known kind")
        self.begin, self.end = 0, 2**64  # the sizes of the trees that it signs
        self.id = hashlib.sha256(self.name.encode() + b"\n" + material).digest()[:4]
        if not self.name or self.id.hex() != wanted:
            raise RefusedError(10, "a key does not have its own id")

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Tell whether this key made the signature."""
        return (ed25519 if self.kind == "Ed25519" else ml_dsa_87)(self.public, data, signature)


def folded(hashes: list[bytes]) -> bytes:
    """Return the root over complete subtrees, largest first."""
    value = hashes[-1] if hashes else hashlib.sha256().digest()
    for left in reversed(hashes[:-1]):
        value = hashlib.sha256(b"\x01" + left + value).digest()
    return value


def require_included(raw: bytes, index: int, size: int, path: list[bytes], root: bytes) -> None:
    """Pass only if these bytes are the record of that index in the tree (RFC 9162, section 2.1.3.2)."""
    first, last, value, steps = index, size - 1, hashlib.sha256(b"\x00" + raw).digest(), list(path)
    holds = 0 <= index < size
    while holds and last:
        if first & 1 or first < last:
            holds = bool(steps)
            other = steps.pop(0) if steps else b""
            value = hashlib.sha256(b"\x01" + (other + value if first & 1 else value + other)).digest()
        first, last = first >> 1, last >> 1
    if not holds or steps or value != root:
        raise RefusedError(91, f"record {index} does not lie in the signed tree")


def require_continued(old: Head, new: Head, steps: list[bytes]) -> None:
    """Pass only if the newer tree begins with the older one."""
    if old.size == new.size:
        holds = old.root == new.root and not steps
    else:
        holds = older_root({"size": old.size, "hashes": [each.hex() for each in steps]}, new.size, new.root) == old.root
    if not holds:
        raise RefusedError(91, "a later checkpoint does not continue the earlier one")


def older_root(kept: dict[str, Any], new: int, new_root: bytes) -> bytes:
    """Return the root of the older tree, which the proof shows the newer one to begin with (RFC 9162, 2.1.4.2).

    The proof is the older tree's own subtrees and what completes them to the newer one, in the order of RFC 6962. For
    an older tree whose size is a power of two, format 2 names its root in front.
    """
    old, steps = kept["size"], [unhex(each) for each in kept["hashes"]]
    if not 0 < old <= new or not steps:
        raise RefusedError(91, "a proof between two checkpoints is not one")
    if old == new:
        return new_root
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    older = newer = steps[0]
    for step in steps[1:]:
        if first & 1 or first == last:
            older = hashlib.sha256(b"\x01" + step + older).digest()
            newer = hashlib.sha256(b"\x01" + step + newer).digest()
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            newer = hashlib.sha256(b"\x01" + newer + step).digest()
        first, last = first >> 1, last >> 1
    if last or newer != new_root:
        raise RefusedError(91, f"the tree of {new} records does not continue that of {old}")
    return older


def leaf_of(raw: bytes) -> dict[str, Any]:
    """Return a record's members."""
    leaf = load(raw)
    if set(leaf) != {"schema", "origin", "sequence", "time", "kind", "via", "body"} or leaf["schema"] != 1:
        raise RefusedError(91, "a line is no record")
    return dict(leaf)


def canonical(data: bytes, name: str) -> dict[str, Any]:
    """Return the object in a file that has one way to be written: sorted keys, no blanks, one line feed."""
    value = load(data)
    if written(value) + b"\n" != data:
        raise RefusedError(10, f"{name} is not written in its one form")
    return dict(value)


def written(value: dict[str, Any]) -> bytes:
    """Return the one form in which an object is written."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def unhex(text: str) -> bytes:
    """Return what lower-case hexadecimal names; in upper case it would be another way to write the same."""
    if not re.fullmatch("(?:[0-9a-f]{2})*", text, re.ASCII):
        raise RefusedError(10, "something is not hexadecimal in its one form")
    return bytes.fromhex(text)


def base64(text: str) -> bytes:
    """Return what base64 encodes, in its one form only."""
    try:
        data = binascii.a2b_base64(text.encode("ascii"))  # what it passes over is not in what is compared below
    except (ValueError, UnicodeEncodeError):
        raise RefusedError(10, "something is not base64") from None
    if binascii.b2a_base64(data, newline=False).decode() != text:
        raise RefusedError(10, "something is not base64 in its one form")
    return data


# Ed25519, verification only: RFC 8032, section 5.1, in extended coordinates (section 5.1.4).
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]


def ed25519(public: bytes, data: bytes, signature: bytes) -> bool:
    """Tell whether the signature holds; a scalar or a point in any but its one form does not."""
    if len(signature) != 64:
        return False
    key, scalar = decoded_point(public), int.from_bytes(signature[32:], "little")
    if key is None or scalar >= ORDER or decoded_point(signature[:32]) is None:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public + data).digest(), "little") % ORDER
    base = decoded_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    minus: Point = (-key[0] % P, key[1], key[2], -key[3] % P)
    x, y, z, _ = added(times(scalar, base or minus), times(challenge, minus))
    inverse = pow(z, P - 2, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little") == signature[:32]


def decoded_point(data: bytes) -> Point | None:
    """Return the point that 32 bytes name, or nothing."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= P or len(data) != 32:
        return None
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_ONE % P
    if x * x % P != square or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return (x, y, 1, x * y % P)


def added(one: Point, other: Point) -> Point:
    """Return the sum of two points."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * CURVE_D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(scalar: int, point: Point) -> Point:
    """Return a multiple of a point."""
    result: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = added(result, point)
        point, scalar = added(point, point), scalar >> 1
    return result


# ML-DSA-87, verification only: FIPS 204, algorithms 3 and 8, with an empty context.
Q, GAMMA1, GAMMA2, BETA, TAU, OMEGA = 8380417, 2**19, (8380417 - 1) // 32, 120, 60, 75
ROWS, COLUMNS = 8, 7
Polynomial = list[int]
ZETAS = [pow(1753, int(f"{place:08b}"[::-1], 2), Q) for place in range(256)]


def ml_dsa_87(public: bytes, data: bytes, signature: bytes) -> bool:
    """Tell whether the signature holds."""
    if len(public) != 2592 or len(signature) != 4627:
        return False
    seed, challenge = public[:32], signature[:64]
    response = [
        [GAMMA1 - each for each in unpacked(signature[64 + 640 * column : 704 + 640 * column], 20)]
        for column in range(COLUMNS)
    ]
    hints = unpacked_hints(signature[64 + 640 * COLUMNS :])
    if hints is None or max(abs(each) for one in response for each in one) >= GAMMA1 - BETA:
        return False
    message = hashlib.shake_256(hashlib.shake_256(public).digest(64) + b"\x00\x00" + data).digest(64)
    ball = ntt(in_ball(challenge))
    moved = [ntt(one) for one in response]
    packed = bytearray()
    for row in range(ROWS):
        high = ntt([each << 13 for each in unpacked(public[32 + 320 * row : 352 + 320 * row], 10)])
        total = [-ball[place] * high[place] for place in range(256)]
        for column in range(COLUMNS):
            entry = expanded(seed + bytes([column, row]))
            total = [value + entry[place] * moved[column][place] for place, value in enumerate(total)]
        found = [use_hint(value, place in hints[row]) for place, value in enumerate(inverse_ntt(total))]
        packed += bytes(found[place] | found[place + 1] << 4 for place in range(0, 256, 2))
    return hashlib.shake_256(message + packed).digest(64) == challenge


def unpacked(data: bytes, bits: int) -> Polynomial:
    """Return 256 numbers of so many bits."""
    number = int.from_bytes(data, "little")
    return [number >> bits * place & (1 << bits) - 1 for place in range(256)]


def unpacked_hints(data: bytes) -> list[set[int]] | None:
    """Return the places of the hints in each row, or nothing where they are not in their one form."""
    found: list[set[int]] = []
    begin = 0
    for row in range(ROWS):
        end = data[OMEGA + row]
        places = list(data[begin:end])
        if not begin <= end <= OMEGA or places != sorted(set(places)):
            return None
        found.append(set(places))
        begin = end
    return None if any(data[begin:OMEGA]) else found


def in_ball(challenge: bytes) -> Polynomial:
    """Return the polynomial with TAU coefficients of 1 or -1 that the challenge names."""
    stream = iter(hashlib.shake_256(challenge).digest(4096))
    signs = int.from_bytes(bytes(next(stream) for _ in range(8)), "little")
    ball = [0] * 256
    for place in range(256 - TAU, 256):
        other = next(each for each in stream if each <= place)
        ball[place], ball[other] = ball[other], 1 - 2 * (signs & 1)
        signs >>= 1
    return ball


def expanded(seed: bytes) -> Polynomial:
    """Return one entry of the matrix that the public key's seed names."""
    data = hashlib.shake_128(seed).digest(3 * 512)
    numbers = (int.from_bytes(data[at : at + 3], "little") & 0x7FFFFF for at in range(0, len(data), 3))
    return [each for each in numbers if each < Q][:256]


def ntt(values: Polynomial) -> Polynomial:
    """Return the number-theoretic transform."""
    values, place, length = list(values), 0, 128
    while length:
        for start in range(0, 256, 2 * length):
            place += 1
            for at in range(start, start + length):
                turned = ZETAS[place] * values[at + length] % Q
                values[at + length], values[at] = (values[at] - turned) % Q, (values[at] + turned) % Q
        length //= 2
    return values


def inverse_ntt(values: Polynomial) -> Polynomial:
    """Return what `ntt` was given."""
    values, place, length = list(values), 256, 1
    while length < 256:
        for start in range(0, 256, 2 * length):
            place -= 1
            for at in range(start, start + length):
                one, other = values[at], values[at + length]
                values[at], values[at + length] = (one + other) % Q, ZETAS[place] * (other - one) % Q
        length *= 2
    return [each * 8347681 % Q for each in values]


def use_hint(value: int, hinted: bool) -> int:  # noqa: FBT001 - as in the standard
    """Return the high bits of a coefficient, moved by one where there is a hint."""
    low = (value % Q) % (2 * GAMMA2)
    low -= 2 * GAMMA2 if low > GAMMA2 else 0
    high = 0 if value % Q - low == Q - 1 else (value % Q - low) // (2 * GAMMA2)
    low -= 1 if value % Q - low == Q - 1 else 0
    return (high + (1 if low > 0 else -1)) % 16 if hinted else high


COMMANDS = {"ledger": ledger, "proof": proof, "list": affected}


if __name__ == "__main__":
    try:
        COMMAND = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
        ENDING = COMMAND(sys.argv[2:]) if COMMAND else main(sys.argv[1:])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
        print("REFUSED: a list is malformed", file=sys.stderr)
        ENDING = 10
    except KeyboardInterrupt:
        print("NOT CHECKED: interrupted", file=sys.stderr)
        ENDING = 18
    sys.exit(ENDING)
