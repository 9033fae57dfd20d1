import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.debian.archives import Archive, Archives, Entry
from bundler.debian.installed import as_status, from_probe, from_status, security_updates
from bundler.debian.stanzas import fields, split
from bundler.errors import SourceError
from tests.support.archive import NOW

STATUS = (
    b"Package: alpha\nStatus: install ok installed\nVersion: 1.0\nArchitecture: amd64\nDescription: a\n more\n\n"
    b"Package: gone\nStatus: deinstall ok config-files\nVersion: 1.0\nArchitecture: all\n"
)


def entry(name: str, version: str, architecture: str = "amd64", *, security: bool = True, more: str = "") -> Entry:
    return Entry(
        name=name,
        version=version,
        architecture=architecture,
        sha256=f"{name}{version}{architecture}",
        length=1,
        is_security=security,
        stanza=f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n{more}",
    )


def archives(*entries: Entry, codename: str = "bookworm-security") -> Archives:
    one = Archive(
        origin="Debian", label="", codename=codename, date=NOW, fingerprints=(), inrelease_sha256="", prefix=""
    )
    return Archives(archives=(one,), entries={each.sha256: each for each in entries})


def test_only_what_dpkg_calls_installed_counts() -> None:
    assert from_status(STATUS) == (("alpha", "1.0", "amd64"),)


def test_a_probes_list_becomes_a_status_that_apt_can_resolve_against() -> None:
    known = archives(entry("alpha", "1.0", more="Provides: awk\nDepends: libc6 (>= 2.36)\nFilename: pool/x"))

    status = as_status(from_probe(["alpha 1.0 amd64", "beta 2 all", "libc6 2.36 amd64"]), known)

    alpha, beta, _ = (fields(each, label="x") for each in split(status.decode()))
    assert (alpha["Provides"], alpha["Depends"], "Filename" in alpha) == ("awk", "libc6 (>= 2.36)", False)
    assert beta["Status"] == "install ok installed"
    assert from_status(status) == (("alpha", "1.0", "amd64"), ("beta", "2", "all"), ("libc6", "2.36", "amd64"))


def test_a_need_that_nothing_known_meets_does_not_make_the_target_look_broken() -> None:
    known = archives(
        entry("maven", "3", more="Depends: default-jre | java-runtime, awk, libc6 (>= 2)"),
        entry("mawk", "1.4", more="Provides: awk\n"),
    )
    present = from_probe(["libc6 2.36 amd64", "maven 3 amd64", "mawk 1.3 amd64", "vendor-jdk 21 amd64"])

    stanzas = {
        each["Package"]: each for each in (fields(s, label="x") for s in split(as_status(present, known).decode()))
    }

    assert stanzas["maven"]["Depends"] == "awk, libc6 (>= 2)"
    assert stanzas["mawk"]["Provides"] == "awk"


def test_only_newer_versions_from_the_security_archive_are_chosen() -> None:
    known = archives(
        entry("alpha", "1.0-1+deb12u1"),
        entry("alpha", "1.0-1+deb12u2"),
        entry("beta", "1.0"),
        entry("gamma", "9", security=False),
        entry("delta", "9"),
        entry("turned", "2", "all"),
    )
    present = from_probe(["alpha 1.0-1 amd64", "beta 1.0 amd64", "gamma 1 amd64", "turned 1 amd64"])

    assert security_updates(present, known) == (("alpha", "1.0-1+deb12u2"), ("turned", "2"))
    assert security_updates(present, known, only=["turned", "beta"]) == (("turned", "2"),)


def test_without_a_security_archive_nothing_can_be_chosen() -> None:
    with pytest.raises(SourceError, match="no security archive"):
        security_updates((), archives(codename="bookworm"))


@pytest.mark.parametrize("text", ["no field", "A: 1\nA: 2", " folded without a field", "a b: 1"])
def test_what_is_no_stanza_is_refused(text: str) -> None:
    with pytest.raises(SourceError):
        fields(text, label="x")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_package_list_or_our_error(untrusted: bytes) -> None:
    try:
        from_status(untrusted)
    except SourceError:
        return
