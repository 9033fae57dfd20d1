"""`sealift export kubernetes`: writes a chart, and what its images are built from, into a new folder."""

import json
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from appliance.actions.kubernetes.chart_values import Wishes, require_pods, to_yaml, values
from appliance.actions.kubernetes.pod import USER
from appliance.config import Config
from appliance.errors import NotPromotedError, StoreWriteError
from appliance.install.sitefile import render
from appliance.promote.standing import current_digest
from appliance.registry.carriers import carrier
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import ContentStore, StoredRelease
from media.errors import UsageError

CHART: Final = "sealift"
IMAGES: Final = "images"
_CHART_VERSION: Final = "1.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was, or would be, written: file names below the folder, and the chart's values."""

    files: tuple[str, ...]
    values: dict[str, Any]
    written: bool


def export(
    config: Config, folder: Path, wishes: Wishes | None, *, images: bool = True, dry_run: bool = False
) -> Exported:
    """Write the chart of what production serves.

    Args:
        config: The site file.
        folder: A folder that does not exist yet.
        wishes: What the cluster's operator says; None before there are images to name: then there is no chart.
        images: Lay out the release's wheels beside the chart, for building images without a network.
        dry_run: Write nothing.

    Raises:
        UsageError: There is nothing to write, the folder is there, or the wishes cannot be.
        NotPromotedError: Nothing is in production.
        UnknownVersionError, StoreDamagedError: The store does not bring what is in production.
        StoreWriteError: The folder could not be written; what was begun is removed.
    """
    if wishes is None and not images:
        raise UsageError(
            what="there is nothing to write",
            why="a chart names its images, and what they are built from is to be left out",
            fix="give --server-image and --engine-image, or leave --no-images out",
        )
    if folder.exists() or folder.is_symlink():
        raise UsageError(
            what=f"{folder.name} is there already", why="a chart is written whole", fix="name a new folder"
        )
    if config.keys.provider == "token":
        raise UsageError(
            what="a chart cannot take this site's keys along",
            why="they are on a token, and the chart's pods read keys from secrets of the cluster",
            fix="export from a site file with keys.provider files; API keys are made anew in the cluster",
        )
    if config.database.kind != "sqlite":
        raise UsageError(
            what="a chart cannot take this site's people and versions along",
            why="they are on a PostgreSQL server, and the chart's pods keep records and state in files of their own",
            fix="bring them back first: `sealift db move --to sqlite` (docs/operator/postgresql.md)",
        )
    digest = current_digest(config.at)
    if digest is None:
        raise NotPromotedError(
            what="there is nothing to export", why="nothing is in production", fix="promote a version first"
        )
    stored, descriptor, _ = carrier(ContentStore(config.at.store), digest)
    require_pods(descriptor)
    texts: dict[str, str] = {}
    chosen: dict[str, Any] = {}
    if wishes is not None:
        chosen = values(config, stored, descriptor, wishes)
        texts = {**_chart(stored, descriptor), f"{CHART}/values.yaml": to_yaml(chosen)}
        texts[f"{CHART}/sealift.toml"] = render(_for_pods(config))
    if images:
        texts |= _containerfiles(descriptor)
    laid: list[str] = []
    if not dry_run:
        laid = _write(folder, texts, stored if images else None)
    return Exported(files=(*sorted(texts), *laid), values=chosen, written=not dry_run)


def _chart(stored: StoredRelease, descriptor: ModelDescriptor) -> dict[str, str]:
    facts = {
        "apiVersion": "v2",
        "name": CHART,
        "description": f"{descriptor.name} {descriptor.version} from release {stored.release}, behind its gateway",
        "type": "application",
        "version": _CHART_VERSION,
        "appVersion": f"{stored.release}",
        "kubeVersion": ">=1.30.0-0",
    }
    texts = {f"{CHART}/Chart.yaml": "".join(f"{name}: {json.dumps(value)}\n" for name, value in facts.items())}
    source = resources.files("appliance.actions.kubernetes") / "chart"
    for name in ("values.schema.json", ".helmignore"):
        texts[f"{CHART}/{name}"] = (source / name).read_text()
    for file in (source / "templates").iterdir():
        texts[f"{CHART}/templates/{file.name}"] = file.read_text()
    return texts


def _for_pods(config: Config) -> Config:
    """Return the site file of a pod: the box's own, without what a cluster does itself.

    Nor what is beside a gateway on a box alone: another box whose lease it waits for, a server for its records, which
    each pod keeps itself, further engines and the machine's own cards, and whoever keeps samples or calls a collector.
    """
    defaults = Config(site=config.site)
    return config.model_copy(
        update={
            "places": defaults.places,
            "service": defaults.service.model_copy(update={"metrics_port": 0, "hostname": config.service.hostname}),
            "backup": defaults.backup,
            "alerts": defaults.alerts,
            "monitoring": defaults.monitoring,
            "network": defaults.network,
            "standby": defaults.standby,
            "database": defaults.database,
            "engines": defaults.engines,
            "review": defaults.review,
            "siem": defaults.siem,
        }
    )


def _containerfiles(descriptor: ModelDescriptor) -> dict[str, str]:
    # What a base lacks is said as an image is built, not when a pod's container ends.
    engine, library = ("llama-cpp", "llama_cpp") if descriptor.engine == "llama.cpp" else ("vllm", "torch")
    return {
        f"{IMAGES}/Containerfile.server": _containerfile(
            "server", "appliance.gateway.application, appliance.audit.service"
        ),
        f"{IMAGES}/Containerfile.engine": _containerfile(
            f"engine-{engine}",
            f"appliance.serve.launcher, {library}",
            also=" && python -I -m appliance.serve.frommachine",
        ),
    }


def _containerfile(environment: str, loaded: str, *, also: str = "") -> str:
    return f"""# Built without a network: BASE is an image of the facility's own with Python 3.11, pinned by digest.
ARG BASE
FROM ${{BASE}} AS made
COPY data/wheels/ /release/wheels/
COPY data/server/requirements-{environment}.txt /release/requirements.txt
RUN python3 -m venv /opt/sealift \\
 && /opt/sealift/bin/pip install --no-index --no-deps --require-hashes --find-links /release/wheels \\
    --requirement /release/requirements.txt
FROM ${{BASE}}
COPY --from=made /opt/sealift /opt/sealift
ENV PATH=/opt/sealift/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER {USER}:{USER}
RUN gpgv --version >/dev/null && python -I -c "import {loaded}"{also}
"""


def _write(folder: Path, texts: dict[str, str], stored: StoredRelease | None) -> list[str]:
    try:
        for name, text in texts.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        laid = []
        if stored is not None:
            for below in ("data/wheels/", "data/server/"):
                laid += stored.export_tree(folder / IMAGES, below=below)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise StoreWriteError(
            what=f"{folder.name} could not be written", why=error.strerror or "", fix="choose another folder"
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return sorted(str(place.relative_to(folder)) for place in laid)
