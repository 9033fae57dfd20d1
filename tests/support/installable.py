"""A stored release with small real wheels, laid into a store by hand, so that installing is tested on its own."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from appliance.config import Places
from appliance.store.content import ContentStore, StoredRelease
from media import canonical

RELEASE_FACTS = "data/release.json"


def wheel(name: str, version: str, files: Mapping[str, str], *, requires: tuple[str, ...] = ()) -> tuple[str, bytes]:
    """Return file name and bytes of a pure wheel."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in content.items())
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, text in content.items():
            # By a date of its own: else a wheel that is made again has other bytes once the clock has gone on.
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{name.replace('-', '_')}-{version}-py3-none-any.whl", stream.getvalue()


def requirement(name: str, version: str, content: bytes) -> str:
    """Return the line of a requirements file that installs exactly this wheel."""
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"


def small_release() -> dict[str, bytes]:
    """Return the files of a release: a server of two wheels, an engine of one, a host environment, units, playbooks."""
    wheels = {
        name: wheel(name, "1.0", {f"{name}/__init__.py": f"NAME = '{name}'\n"}, requires=requires)
        for name, requires in {"alpha": (), "beta": ("alpha",), "engine": (), "tool": ()}.items()
    }
    lists = {"server": ("alpha", "beta"), "engine-llama-cpp": ("engine",), "host": ("tool",)}
    files = {f"data/wheels/{file}": content for file, content in wheels.values()}
    for environment, names in lists.items():
        lines = "".join(requirement(name, "1.0", wheels[name][1]) for name in names)
        files[f"data/server/requirements-{environment}.txt"] = lines.encode()
    files["data/host/systemd/sealift.target"] = b"[Unit]\n"
    files["data/host/ansible/roles/units/tasks/main.yml"] = b"---\n"
    files["data/debs/Packages"] = b""
    files[RELEASE_FACTS] = canonical.dumps(
        {
            "format": 1,
            "environments": {name: f"data/server/requirements-{name}.txt" for name in lists},
            "models": [],
        }
    )
    return files


def store_release(places: Places, files: Mapping[str, bytes], *, serial: int = 1) -> StoredRelease:
    """Lay files into the store as a received release would lie."""
    store = ContentStore(places.store)
    store.prepare()
    listed = {}
    for path, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        place = store.object_path(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_bytes(content)
        place.chmod(0o444)
        listed[path] = {"kind": "server", "length": len(content), "sha256": digest}
    facts = {
        "format": 1,
        "serial": serial,
        "release": f"r{serial}",
        "code": "c" * 64,
        "payload_digest": "d" * 64,
        "files": listed,
    }
    store.release_folder(serial).mkdir(parents=True)
    (store.release_folder(serial) / "release.json").write_bytes(canonical.dumps(facts))
    return StoredRelease.load(store, serial)


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def places_below(root: Path) -> Places:
    """Return places of an appliance below a folder."""
    return Places(root=root, run=root / "run")
