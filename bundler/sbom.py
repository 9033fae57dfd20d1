"""The bill of materials: CycloneDX 1.6, one component for each file under `data/` and no other.

Wheels and Debian packages are libraries with their package URL, weights a machine-learning model (with the one they
were quantized from as its ancestor), task sets data, everything else a file. What is not known is said: a property
`sealift:unknown` for each thing, and an aggregate `unknown` for what weights consist of. Nothing of it depends on when
or where it is made: the serial number follows from the payload.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component as BomComponent
from cyclonedx.model.component import ComponentType, Pedigree
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from bundler.artifact import Artifact
from bundler.provenance import own_version
from media import bill
from media.canonical import loads
from media.limits import PAYLOAD_BYTES

_TYPES: Final = {
    "wheel": ComponentType.LIBRARY,
    "deb": ComponentType.LIBRARY,
    "weights": ComponentType.MACHINE_LEARNING_MODEL,
    "eval": ComponentType.DATA,
}
PATH_PROPERTY: Final = bill.PATH_PROPERTY
KIND_PROPERTY: Final = "sealift:kind"
UNKNOWN_PROPERTY: Final = "sealift:unknown"


def predicate(
    artifacts: Sequence[Artifact], *, release: str, serial: int, created: datetime, payload_digest: str
) -> dict[str, Any]:
    """Return the bill of materials of a payload as CycloneDX 1.6 JSON.

    Raises:
        MediaError: It would not name exactly these files; a fault of ours.
    """
    licenses = LicenseFactory()
    root = BomComponent(
        name=release, version=str(serial), type=ComponentType.APPLICATION, bom_ref=f"release:{release}:{serial}"
    )
    bom = Bom(
        serial_number=uuid5(NAMESPACE_URL, f"urn:sealift:payload:{payload_digest}"),
        metadata=BomMetaData(
            component=root,
            timestamp=created,
            tools=ToolRepository(components=[_tool()]),
            lifecycles=[PredefinedLifecycle(phase=LifecyclePhase.BUILD)],
        ),
        components=[_component(artifact, licenses) for artifact in artifacts],
    )
    bom.register_dependency(root, bom.components)
    found: dict[str, Any] = loads(JsonV1Dot6(bom).output_as_string().encode(), max_bytes=PAYLOAD_BYTES)
    found["compositions"] = _compositions(artifacts, root=str(root.bom_ref))
    bill.require_same_files(found, {artifact.target: artifact.sha256 for artifact in artifacts})
    return found


def _tool() -> BomComponent:
    return BomComponent(
        name="sealift-bundler",
        version=own_version(),
        type=ComponentType.APPLICATION,
        bom_ref="tool:sealift-bundler",
    )


def _compositions(artifacts: Sequence[Artifact], *, root: str) -> list[dict[str, Any]]:
    """Say how much is known: all files of the release; of weights, not the data that they were trained on."""
    weights = sorted(artifact.target for artifact in artifacts if artifact.kind == "weights")
    known: list[dict[str, Any]] = [{"aggregate": "complete", "assemblies": [root]}]
    return [*known, *([{"aggregate": "unknown", "assemblies": weights}] if weights else [])]


def _unknown(artifact: Artifact) -> list[Property]:
    about = artifact.component
    if not about.version:
        return []  # an index beside packages is nobody's work but ours
    missing = {
        "license": not about.license and artifact.kind in {"wheel", "deb", "weights"},
        "package-url": not about.purl and artifact.kind in {"wheel", "weights"},
        "training-data": artifact.kind == "weights",
    }
    return [Property(name=UNKNOWN_PROPERTY, value=name) for name, is_missing in missing.items() if is_missing]


def _pedigree(artifact: Artifact) -> Pedigree | None:
    about = artifact.component
    if not about.parent_sha256:
        return None
    parent = BomComponent(
        name=about.name,
        version=about.version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"{artifact.target}#parent",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=about.parent_sha256)],
        purl=PackageURL.from_string(about.parent_purl) if about.parent_purl else None,
    )
    return Pedigree(ancestors=[parent], notes="quantized here; see the provenance record beside the weights")


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
            *_unknown(artifact),
        ],
        pedigree=_pedigree(artifact),
    )
