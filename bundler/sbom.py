"""The bill of materials: CycloneDX 1.6, one component for each file under `data/` and no other.

Wheels and Debian packages are libraries with their package URL, weights a machine-learning model, task sets data,
everything else a file. Nothing of it depends on when or where it is made: the serial number follows from the payload.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component as BomComponent
from cyclonedx.model.component import ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from bundler.artifact import Artifact
from media.canonical import loads
from media.limits import PAYLOAD_BYTES

_TYPES: Final = {
    "wheel": ComponentType.LIBRARY,
    "deb": ComponentType.LIBRARY,
    "weights": ComponentType.MACHINE_LEARNING_MODEL,
    "eval": ComponentType.DATA,
}
PATH_PROPERTY: Final = "sealift:path"
KIND_PROPERTY: Final = "sealift:kind"


def predicate(
    artifacts: Sequence[Artifact], *, release: str, serial: int, created: datetime, payload_digest: str
) -> dict[str, Any]:
    """Return the bill of materials of a payload as CycloneDX 1.6 JSON."""
    licenses = LicenseFactory()
    root = BomComponent(
        name=release, version=str(serial), type=ComponentType.APPLICATION, bom_ref=f"release:{release}:{serial}"
    )
    bom = Bom(
        serial_number=uuid5(NAMESPACE_URL, f"urn:sealift:payload:{payload_digest}"),
        metadata=BomMetaData(component=root, timestamp=created),
        components=[_component(artifact, licenses) for artifact in artifacts],
    )
    bom.register_dependency(root, bom.components)
    found: dict[str, Any] = loads(JsonV1Dot6(bom).output_as_string().encode(), max_bytes=PAYLOAD_BYTES)
    return found


def _component(artifact: Artifact, licenses: LicenseFactory) -> BomComponent:
    about = artifact.component
    origin = [Property(name="sealift:origin", value=about.origin)] if about.origin else []
    # An index beside its packages is no library.
    kind = _TYPES.get(artifact.kind, ComponentType.FILE) if about.version or artifact.kind == "eval" else None
    return BomComponent(
        name=about.name,
        version=about.version or None,
        type=kind or ComponentType.FILE,
        bom_ref=artifact.target,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=artifact.sha256)],
        licenses=[licenses.make_from_string(about.license)] if about.license else [],
        purl=PackageURL.from_string(about.purl) if about.purl else None,
        properties=[
            Property(name=PATH_PROPERTY, value=artifact.target),
            Property(name=KIND_PROPERTY, value=artifact.kind),
            *origin,
        ],
    )
