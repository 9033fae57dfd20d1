"""Lists of packages, judged from the signature down."""

import base64
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler.debian.archives import Archives, read_lists
from bundler.debian.installed import security_updates
from bundler.digests import file_sha256
from bundler.errors import SourceError
from tests.support import archive
from tests.support.archive import DAY, NOW
from tests.support.debs import deb
from tests.support.gpg import GnuPG

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs Debian's dpkg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """An archive of one package, and the two keys of its keyring."""

    gnupg: GnuPG
    keys: tuple[str, str]
    stranger: str
    file: Path
    index: bytes
    keyring: Path

    def inrelease(self, *keys: str, **changes: object) -> bytes:
        text = archive.release(self.index, **changes)  # type: ignore[arg-type]
        return archive.signed(text, self.gnupg, *(keys or self.keys))

    def read(self, folder: Path, inrelease: bytes, *, now: datetime = NOW, index: bytes | None = None) -> Archives:
        archive.lists(folder, inrelease, self.index if index is None else index)
        return read_lists(folder, keyring=self.keyring, now=now)


@pytest.fixture(scope="module")
def upstream(gnupg: GnuPG, tmp_path_factory: pytest.TempPathFactory) -> Upstream:
    folder = tmp_path_factory.mktemp("upstream")
    keys = (gnupg.key("archive one"), gnupg.key("archive two"))
    file = deb(folder, "alpha", "2:1.0-1")
    return Upstream(
        gnupg=gnupg,
        keys=keys,
        stranger=gnupg.key("stranger"),
        file=file,
        index=archive.packages([file]),
        keyring=archive.keyring(folder, gnupg, *keys),
    )


def facts(file: Path) -> dict[str, object]:
    return {"sha256": file_sha256(file), "length": file.stat().st_size, "name": "alpha", "version": "2:1.0-1"}


def test_a_list_signed_by_its_archive_vouches_for_its_packages(upstream: Upstream, tmp_path: Path) -> None:
    found = upstream.read(tmp_path, upstream.inrelease())

    assert [(each.name, each.fingerprints) for each in found.archives] == [
        ("Debian bookworm", tuple(sorted(upstream.keys)))
    ]
    entry = found.require(**facts(upstream.file), architecture="amd64")  # type: ignore[arg-type]
    assert (entry.name, entry.is_security) == ("alpha", False)


def test_one_known_key_beside_an_unknown_one_is_enough(upstream: Upstream, tmp_path: Path) -> None:
    found = upstream.read(tmp_path, upstream.inrelease(upstream.keys[0], upstream.stranger))

    assert found.archives[0].fingerprints == (upstream.keys[0],)


def test_lists_signed_by_strangers_are_removed_so_that_apt_does_not_use_them(
    upstream: Upstream, tmp_path: Path
) -> None:
    told: list[str] = []
    archive.lists(tmp_path, upstream.inrelease(upstream.stranger), upstream.index, host="vendor")
    (tmp_path / "unsigned_dists_x_main_binary-amd64_Packages").write_bytes(upstream.index)
    archive.lists(tmp_path, upstream.inrelease(), upstream.index)

    found = read_lists(tmp_path, keyring=upstream.keyring, now=NOW, progress=told.append)

    assert len(found.archives) == 1
    assert {file.name.partition("_")[0] for file in tmp_path.iterdir()} == {"mirror"}
    assert "passed over" in told[0]


@pytest.mark.parametrize("host", ["mirror", "a-mirror"])
def test_a_security_update_that_a_point_release_took_over_is_still_one(
    upstream: Upstream, tmp_path: Path, host: str
) -> None:
    archive.lists(tmp_path, upstream.inrelease(), upstream.index, host="b-mirror")
    archive.lists(
        tmp_path,
        upstream.inrelease(codename="bookworm-security"),
        upstream.index,
        codename="bookworm-security",
        host=host,
    )

    found = read_lists(tmp_path, keyring=upstream.keyring, now=NOW)

    assert security_updates([("alpha", "2:0.9-1", "amd64")], found) == (("alpha", "2:1.0-1"),)


def test_without_any_known_archive_nothing_is_fetched(upstream: Upstream, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no archive that the keyring vouches for"):
        upstream.read(tmp_path, upstream.inrelease(upstream.stranger))


def swapped(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old, new, 1)


@pytest.mark.parametrize(
    "change",
    [
        swapped(b"Codename: bookworm", b"Codename: bullseye"),
        swapped(b"-----BEGIN PGP SIGNED MESSAGE-----", b"Suite: mine\n-----BEGIN PGP SIGNED MESSAGE-----"),
        swapped(b"Hash: SHA256", b"Hash: SHA512"),
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content.replace(b"\n\nOrigin", b"\n\nOrigin: evil\nOrigin", 1),
    ],
)
def test_an_altered_list_is_refused(upstream: Upstream, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(SourceError):
        upstream.read(tmp_path, change(upstream.inrelease()))


def test_text_after_the_signature_is_never_looked_at(upstream: Upstream, tmp_path: Path) -> None:
    found = upstream.read(tmp_path, upstream.inrelease() + b"SHA256:\n " + b"0" * 64 + b" 1 other/Packages\n")

    assert found.archives[0].codename == "bookworm"


def test_an_altered_packages_file_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="main_binary-amd64_Packages cannot be used") as caught:
        upstream.read(tmp_path, upstream.inrelease(), index=upstream.index.replace(b"1.0-1", b"1.0-2"))

    assert "digest or length" in caught.value.why


def test_an_altered_package_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    found = upstream.read(tmp_path, upstream.inrelease())

    for change in ({"sha256": "0" * 64}, {"length": 1}, {"name": "beta"}, {"version": "2:1.0-0"}):
        with pytest.raises(SourceError, match="not one that a signed list names"):
            found.require(**{**facts(upstream.file), "architecture": "amd64", **change})  # type: ignore[arg-type]


def test_a_list_past_its_own_date_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    expiring = upstream.inrelease(until=NOW + DAY)

    assert upstream.read(tmp_path / "1", expiring).archives
    with pytest.raises(SourceError, match="cannot be used") as caught:
        upstream.read(tmp_path / "2", expiring, now=NOW + 2 * DAY)

    assert "valid until 2026-11-21" in caught.value.why


def test_a_list_from_the_future_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        upstream.read(tmp_path, upstream.inrelease(date=NOW + 3 * DAY))

    assert "in the future" in caught.value.why


def test_signatures_of_keys_that_have_expired_do_not_count(gnupg: GnuPG, upstream: Upstream, tmp_path: Path) -> None:
    old = gnupg.key("old archive", at="20200101T000000", expires="20210101T000000")
    text = archive.release(upstream.index)
    inrelease = gnupg.run("-u", f"{old}!", "--clearsign", data=text, at="20200601T000000")
    archive.lists(tmp_path / "lists", inrelease, upstream.index)
    ring = archive.keyring(tmp_path, gnupg, old)

    with pytest.raises(SourceError):
        read_lists(tmp_path / "lists", keyring=ring, now=datetime(2026, 11, 20, tzinfo=UTC))


def test_a_missing_keyring_is_named(upstream: Upstream, tmp_path: Path) -> None:
    archive.lists(tmp_path, upstream.inrelease(), upstream.index)

    with pytest.raises(SourceError, match=r"keyring none\.gpg is not there"):
        read_lists(tmp_path, keyring=tmp_path / "none.gpg", now=NOW)


def packets(inrelease: bytes) -> bytes:
    """Return the signature packets of a clear-signed file."""
    lines = inrelease.partition(b"-----BEGIN PGP SIGNATURE-----\n")[2].partition(b"-----END")[0].split(b"\n")
    return base64.b64decode(b"".join(line for line in lines if line and not line.startswith(b"=")))


def test_a_bad_signature_beside_a_good_one_refuses_the_list(upstream: Upstream, tmp_path: Path) -> None:
    good = upstream.inrelease(upstream.keys[0])
    bad = upstream.inrelease(upstream.keys[1], codename="other")
    armored = base64.encodebytes(packets(good) + packets(bad))
    head = good.partition(b"-----BEGIN PGP SIGNATURE-----\n")[0]
    both = head + b"-----BEGIN PGP SIGNATURE-----\n\n" + armored + b"-----END PGP SIGNATURE-----\n"

    with pytest.raises(SourceError) as caught:
        upstream.read(tmp_path, both)

    assert "BADSIG" in caught.value.why


def test_a_signature_over_sha1_does_not_count(upstream: Upstream, tmp_path: Path) -> None:
    text = archive.release(upstream.index)

    with pytest.raises(SourceError, match="no archive"):
        upstream.read(tmp_path, archive.signed(text, upstream.gnupg, upstream.keys[0], digest="SHA1"))
