"""A chart of a site where two people promoted a version, as `sealift export kubernetes` writes it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.actions.kubernetes.chart_values import Wishes
from appliance.actions.kubernetes.export import Exported, export
from appliance.registry.descriptor import ModelDescriptor
from media import canonical
from media.vllmprofile import VllmSettings
from tests.support.installable import store_release
from tests.support.promotion import Site, open_site
from tests.support.versions import version_files

PINNED = f"registry.internal/sealift/server@sha256:{'a' * 64}"
ENGINE = f"registry.internal/sealift/engine@sha256:{'b' * 64}"


def wishes(**changes: Any) -> Wishes:
    """Return what an operator says who says little."""
    return Wishes(**{"server_image": PINNED, "engine_image": ENGINE, **changes})


def promoted_site(
    root: Path, *, engine: str = "llama.cpp", gpus: int = 1, nodes: int = 1
) -> tuple[Site, ModelDescriptor]:
    """Return a site whose store brings a version that is in production; vLLM's is shared by so many GPUs and nodes."""
    files = {
        **version_files(),
        "data/server/requirements-server.txt": b"sealift==0.1.0\n",
        "data/wheels/sealift-0.1.0-py3-none-any.whl": b"wheel",
    }
    name = next(name for name in files if name.endswith("descriptor.json"))
    fields = json.loads(files[name])
    if engine == "vllm":
        spread = VllmSettings(tensor_parallel_size=max(gpus, 1), pipeline_parallel_size=nodes)
        fields["runtime"] = {**fields["runtime"], "vllm": spread.to_json()}
    files[name] = canonical.dumps({**fields, "engine": engine})
    site = open_site(root)
    store_release(site.config.at, files)
    descriptor = ModelDescriptor.from_bytes(files[name])
    site.promote(descriptor.model_digest)
    return site, descriptor


def exported(root: Path, *, engine: str = "llama.cpp", **changes: Any) -> Exported:
    """Write a chart to `root`/out."""
    spread = {name: changes[name] for name in ("gpus", "nodes") if name in changes}
    site, _ = promoted_site(root / "box", engine=engine, **spread)
    return export(site.config, root / "out", wishes(**changes))


def tls_secret(folder: Path) -> Path:
    """Lay tls.crt, tls.key and ca.crt down as a secret is mounted; one certificate vouches for itself."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "llm")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "ca.crt").write_bytes(certificate)
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "tls.key").write_bytes(pem)
    return folder
