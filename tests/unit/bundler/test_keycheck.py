import pytest

from bundler.errors import CeremonyError
from bundler.keycheck import certificate_facts, key_facts, require_strong
from tests.support.gpg import GnuPG, gnupg_home


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa3072"])
def test_strong_keys_that_never_end_are_taken(gnupg: GnuPG, algorithm: str) -> None:
    made = gnupg.key(f"strong {algorithm} <s@sender.example>", algorithm=algorithm)

    require_strong(key_facts(gnupg.home, made), owner="Alice")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"algorithm": "rsa2048"}, "RSA with 2048 bits"),
        ({"algorithm": "nistp256"}, "only RSA and Ed25519"),
        ({"expires": "10y"}, "ends by a date"),
        ({"expires": "1d", "at": "20200101T000000"}, "has expired"),
    ],
)
def test_keys_that_are_weak_or_end_are_refused(gnupg: GnuPG, options: dict[str, str], why: str) -> None:
    made = gnupg.key(f"weak {why} <w@sender.example>", **options)

    with pytest.raises(CeremonyError) as refused:
        require_strong(key_facts(gnupg.home, made), owner="Alice")

    assert why in refused.value.why


def test_a_revoked_key_is_refused(gnupg: GnuPG) -> None:
    made = gnupg.key("revoked <r@sender.example>")
    gnupg.revoke(made)

    with pytest.raises(CeremonyError, match="may not be used") as refused:
        require_strong(key_facts(gnupg.home, made), owner="Alice")

    assert "revoked" in refused.value.why


def test_a_key_with_a_signing_subkey_is_refused(gnupg: GnuPG) -> None:
    made = gnupg.key("subkey <k@sender.example>")
    gnupg.run("--quick-add-key", made, "ed25519", "sign", "0")

    with pytest.raises(CeremonyError) as refused:
        require_strong(key_facts(gnupg.home, made), owner="Alice")

    assert "signing subkey" in refused.value.why


def test_a_short_key_id_is_not_enough(gnupg: GnuPG) -> None:
    made = gnupg.key("short <h@sender.example>")

    with pytest.raises(CeremonyError, match="is not in that GnuPG home"):
        key_facts(gnupg.home, made[-16:])


def test_a_key_whose_secret_half_is_elsewhere_is_refused(gnupg: GnuPG) -> None:
    made = gnupg.key("elsewhere <e@sender.example>")
    with gnupg_home() as other:
        other.run("--import", data=gnupg.certificate(made))

        with pytest.raises(CeremonyError) as refused:
            require_strong(key_facts(other.home, made), owner="Alice")

    assert "secret half" in refused.value.why


def test_a_user_id_that_is_bound_by_sha1_is_refused(gnupg: GnuPG) -> None:
    made = gnupg.key("broken hash <b@sender.example>")
    gnupg.run(
        "--cert-digest-algo", "SHA1", "--allow-weak-key-signatures", "--quick-add-uid", made, "other <b2@x.example>"
    )

    with pytest.raises(CeremonyError) as refused:
        require_strong(key_facts(gnupg.home, made), owner="Alice")
    with pytest.raises(CeremonyError) as elsewhere:
        require_strong(certificate_facts(gnupg.certificate(made)), owner="Alice", is_here=False)

    assert "SHA-1" in refused.value.why
    assert "SHA-1" in elsewhere.value.why


def test_a_certificate_is_judged_without_its_secret_half(gnupg: GnuPG) -> None:
    good = gnupg.certificate(gnupg.key("elsewhere good <g@sender.example>"))
    ending = gnupg.certificate(gnupg.key("elsewhere ends <g@sender.example>", expires="10y"))

    require_strong(certificate_facts(good), owner="Alice", is_here=False)
    with pytest.raises(CeremonyError, match="may not be used"):
        require_strong(certificate_facts(good), owner="Alice")
    with pytest.raises(CeremonyError) as refused:
        require_strong(certificate_facts(ending), owner="Alice", is_here=False)
    assert "ends by a date" in refused.value.why
