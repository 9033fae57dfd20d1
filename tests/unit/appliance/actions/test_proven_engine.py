"""The step of a proof about an attached engine: what of the store and of the installed environment it looks at."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.actions import proven_engine
from appliance.config import Config
from appliance.errors import NotInstalledError, ProofError
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import StoredRelease
from media import canonical
from media.digest import sha256_hex
from media.errors import SealiftError
from tests.support import attached
from tests.support.engine_process import engine_site
from tests.support.installable import store_release

PROGRAM = b"a program"
WHEEL = b"a wheel with a program"
LISTED = f"engine==1.0 --hash=sha256:{sha256_hex(WHEEL)}\n".encode()
BY_PROGRAM = {**attached.SUPERVISED, "program": "bin/peer", "program_sha256": sha256_hex(PROGRAM), "module": ""}


@pytest.fixture
def site() -> Iterator[Config]:
    with engine_site() as config:
        yield config


def received(
    site: Config, settings: object, *, wheel: bytes = WHEEL, listed: bytes = LISTED
) -> tuple[StoredRelease, ModelDescriptor]:
    files = attached.files_of(settings)  # type: ignore[arg-type]
    name = "data/models/tiny/descriptor.json"
    fields = canonical.mapping(canonical.loads(files[name]), "descriptor")
    files[name] = canonical.dumps({**fields, "environment": sha256_hex(listed)})
    files |= {
        "data/server/requirements-engine-attached.txt": listed,
        "data/wheels/engine-1.0-py3-none-any.whl": wheel,
    }
    return store_release(site.at, files), ModelDescriptor.from_bytes(files[name])


def test_a_program_is_named_with_its_digest_and_hashed_where_it_is_installed(
    site: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, descriptor = received(site, BY_PROGRAM)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/peer").write_bytes(PROGRAM)
    monkeypatch.setattr(proven_engine, "environment_of", lambda *_: tmp_path)

    found = proven_engine.engine_of(site.at, stored, descriptor)
    (tmp_path / "bin/peer").write_bytes(b"another program")

    assert f"bin/peer {sha256_hex(PROGRAM)}, hashed again where it is installed" in found.detail
    assert found.data["wheels"] == {"engine-1.0-py3-none-any.whl": sha256_hex(WHEEL)}
    with pytest.raises(ProofError, match="the engine's program is not what the descriptor names"):
        proven_engine.engine_of(site.at, stored, descriptor)


def test_a_module_is_known_by_the_wheels_of_its_environment(site: Config) -> None:
    stored, descriptor = received(site, attached.SUPERVISED)

    found = proven_engine.engine_of(site.at, stored, descriptor)

    assert f"module {attached.MODULE}; environment {sha256_hex(LISTED)[:12]}, 1 wheels" in found.detail


def test_an_environment_that_names_no_wheel_proves_nothing(site: Config) -> None:
    stored, descriptor = received(site, attached.SUPERVISED, listed=b"engine==1.0\n")

    with pytest.raises(ProofError, match="names no wheel"):
        proven_engine.engine_of(site.at, stored, descriptor)


def test_a_program_that_is_installed_no_more_is_proven_from_the_store(
    site: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> Path:
        raise NotInstalledError(what="", why="", fix="")

    monkeypatch.setattr(proven_engine, "environment_of", gone)
    stored, descriptor = received(site, BY_PROGRAM)

    assert "not installed any more" in proven_engine.engine_of(site.at, stored, descriptor).detail


def test_a_wheel_that_the_list_does_not_name_proves_nothing(site: Config) -> None:
    other, descriptor = received(site, attached.SUPERVISED, wheel=b"another wheel")
    with pytest.raises(ProofError, match="not in the store"):
        proven_engine.engine_of(site.at, other, descriptor)


def test_a_wheel_whose_bytes_changed_in_the_store_is_found(site: Config) -> None:
    stored, descriptor = received(site, attached.SUPERVISED)
    place = stored.path_of("data/wheels/engine-1.0-py3-none-any.whl")
    place.chmod(0o644)
    place.write_bytes(WHEEL.swapcase())

    with pytest.raises(SealiftError, match=r"damaged|not what"):
        proven_engine.engine_of(site.at, stored, descriptor)


def test_nobody_can_say_what_answers_at_a_socket_of_the_site(site: Config) -> None:
    stored, descriptor = received(site, attached.SOMEBODYS)

    with pytest.raises(ProofError, match="nobody can say what answered"):
        proven_engine.engine_of(site.at, stored, descriptor)
