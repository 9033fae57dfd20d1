"""Whom `sealift run` and `chat` ask when nobody names an address: the box that they are typed on."""

from pathlib import Path

import pytest

from appliance.cli.ask import own_service
from appliance.cli.context import Context

LOOPBACK = ("http://127.0.0.1:8000/v1", None)


def box(root: Path, *, tls: bool = True, addresses: str = '"10.77.0.2", "10.77.0.3"') -> Context:
    folder = root / "etc/sealift"
    (folder / "tls").mkdir(parents=True)
    (folder / "sealift.toml").write_text(
        f'site = "s"\nenvironment = "demo"\n[places]\nroot = "{root}"\n'
        f"[service]\ntls = {str(tls).lower()}\n[network]\naddresses = [{addresses}]\n"
    )
    (folder / "tls/trust.crt").write_text("who vouches for it")
    return Context(config_path=folder / "sealift.toml")


@pytest.mark.parametrize(
    ("addresses", "url"), [('"10.77.0.2", "10.77.0.3"', "https://10.77.0.2/v1"), ('"fd00::7"', "https://[fd00::7]/v1")]
)
def test_a_box_is_asked_at_its_own_address_and_its_own_authority_believed(
    tmp_path: Path, addresses: str, url: str
) -> None:
    ours = box(tmp_path, addresses=addresses)

    assert own_service(ours) == (url, tmp_path / "etc/sealift/tls/trust.crt")


def test_where_no_box_is_or_none_that_shows_a_certificate_loopback_is_asked(tmp_path: Path) -> None:
    assert own_service(Context(config_path=tmp_path / "none.toml")) == LOOPBACK
    assert own_service(box(tmp_path / "plain", tls=False)) == LOOPBACK
    assert own_service(box(tmp_path / "unnamed", addresses="")) == LOOPBACK

    ours = box(tmp_path / "before")
    (tmp_path / "before/etc/sealift/tls/trust.crt").unlink()

    assert own_service(ours) == LOOPBACK
