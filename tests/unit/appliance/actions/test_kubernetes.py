"""What `sealift export kubernetes` writes, and what the pods run."""

import json
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from appliance import config as configuration
from appliance.actions.kubernetes import pod
from appliance.actions.kubernetes.export import export
from appliance.config import DatabaseSection
from appliance.errors import NotPromotedError, StoreDamagedError
from appliance.keys.files import FileKeys
from appliance.registry import memory
from appliance.registry.memory import Need
from appliance.standby.permit import Always, permit_of
from appliance.store.content import ContentStore, StoredRelease
from media.errors import UsageError
from tests.support.chart import exported, promoted_site, wishes
from tests.support.promotion import digest, open_site
from tests.support.versions import weights_file


def test_the_values_are_what_is_in_production_and_the_cpu_scales_by_its_use(tmp_path: Path) -> None:
    site, descriptor = promoted_site(tmp_path / "box")

    made = export(site.config, tmp_path / "out", wishes(replicas=2, most=6))

    values = yaml.safe_load((tmp_path / "out/sealift/values.yaml").read_text())
    assert values == made.values
    assert values["model"]["digest"] == descriptor.model_digest
    assert values["model"]["weightsDigest"] == descriptor.weights_digest
    assert values["autoscaling"] == {
        "enabled": True,
        "min": 2,
        "max": 6,
        "targetPercent": 72,
        "gpuMetric": "DCGM_FI_DEV_GPU_UTIL",
    }
    assert sorted(made.files) == sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert (tmp_path / "out/images/data/wheels/sealift-0.1.0-py3-none-any.whl").read_bytes() == b"wheel"
    image = (tmp_path / "out/images/Containerfile.engine").read_text()
    assert "--no-index --no-deps --require-hashes" in image
    assert image.endswith(
        'USER 65532:65532\nRUN gpgv --version >/dev/null && python -I -c "import appliance.serve.launcher, llama_cpp"'
        " && python -I -m appliance.serve.frommachine\n"
    )


def test_a_site_whose_records_are_on_a_server_is_told_to_bring_them_back_first(tmp_path: Path) -> None:
    """Its pods had an old `state.db` then, with versions and keys of before the move."""
    site, _ = promoted_site(tmp_path / "box")
    database = DatabaseSection(kind="postgresql", server="db", address="10.0.0.9")
    on_server = site.config.model_copy(update={"database": database})

    with pytest.raises(UsageError, match="people and versions") as refused:
        export(on_server, tmp_path / "out", wishes())

    assert "`sealift db move --to sqlite`" in refused.value.fix
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("cache", "mib"), [(0, 2048), (40 * 2**30, 43_136)])
def test_an_engine_may_take_what_its_context_takes_besides_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: int, mib: int
) -> None:
    need = Need(weights=0, cache=cache, compute=0, process=128 * 2**20 if cache else 0)
    monkeypatch.setattr(memory, "need_of", lambda *_: need)

    resources = exported(tmp_path).values["engine"]["resources"]

    assert resources["limits"] == {"memory": f"{mib}Mi"}
    assert resources["requests"]["memory"] == f"{mib}Mi"


def test_the_pods_site_file_is_the_boxes_own_without_its_places(tmp_path: Path) -> None:
    site, _ = promoted_site(tmp_path / "box")
    exported_to = tmp_path / "out"
    export(site.config, exported_to, wishes())

    inside = configuration.load(exported_to / "sealift/sealift.toml")

    assert (inside.site, inside.policy, inside.limits) == (site.config.site, site.config.policy, site.config.limits)
    assert (inside.places.root, inside.places.run, inside.service.metrics_port) == ("/", "", 0)


def test_before_there_are_images_only_what_they_are_built_from_is_written(tmp_path: Path) -> None:
    site, _ = promoted_site(tmp_path / "box")

    made = export(site.config, tmp_path / "out", None)

    assert made.values == {}
    assert {path.split("/")[0] for path in made.files} == {"images"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"images"}


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    site, _ = promoted_site(tmp_path / "box")

    made = export(site.config, tmp_path / "out", wishes(), dry_run=True)

    assert not made.written
    assert "sealift/templates/pods.yaml" in made.files
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"server_image": "registry.internal/server:latest"}, "not pinned"),
        ({"engine_image": "registry.internal/engine@sha256:abc"}, "not pinned"),
        ({"gpus": 3}, "cannot run"),
        ({"gpus": 2}, "cannot run"),
        ({"nodes": 2}, "cannot run"),
        ({"replicas": 0}, "cannot run"),
    ],
)
def test_what_could_never_run_is_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    site, _ = promoted_site(tmp_path / "box")

    with pytest.raises(UsageError, match=says):
        export(site.config, tmp_path / "out", wishes(**changes))
    assert not (tmp_path / "out").exists()


def test_several_nodes_are_for_one_replica_with_gpus(tmp_path: Path) -> None:
    assert exported(tmp_path / "a", engine="vllm", gpus=8, nodes=2, replicas=1).values["ray"]["nodes"] == 2
    with pytest.raises(UsageError):
        exported(tmp_path / "b", engine="vllm", gpus=8, nodes=2, replicas=2)
    with pytest.raises(UsageError):
        exported(tmp_path / "c", engine="vllm", gpus=0, nodes=2, replicas=1)


@pytest.mark.parametrize(("gpus", "nodes"), [(2, 1), (8, 1), (4, 2)])
def test_a_version_is_spread_as_its_profile_was_approved(tmp_path: Path, gpus: int, nodes: int) -> None:
    site, _ = promoted_site(tmp_path / "box", engine="vllm", gpus=4)

    with pytest.raises(UsageError) as refused:
        export(site.config, tmp_path / "out", wishes(gpus=gpus, nodes=nodes))

    assert "4 GPUs on each of 1 nodes" in refused.value.why


def test_nothing_is_exported_where_nothing_was_promoted_or_a_folder_is_there(tmp_path: Path) -> None:
    with pytest.raises(NotPromotedError):
        export(open_site(tmp_path / "empty").config, tmp_path / "out", wishes())
    site, _ = promoted_site(tmp_path / "box")
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="there already"):
        export(site.config, tmp_path / "out", wishes())


def test_a_damaged_wheel_leaves_no_half_written_chart(tmp_path: Path) -> None:
    site, _ = promoted_site(tmp_path / "box")
    stored = StoredRelease.load(ContentStore(site.config.at.store), 1)
    place = stored.path_of("data/wheels/sealift-0.1.0-py3-none-any.whl")
    place.chmod(0o600)
    place.write_bytes(b"WHEEL")

    with pytest.raises(StoreDamagedError):
        export(site.config, tmp_path / "out", wishes())
    assert not (tmp_path / "out").exists()


def test_a_pod_proves_approvals_and_bytes_before_it_links_them(tmp_path: Path) -> None:
    site, descriptor = promoted_site(tmp_path / "box")
    links = tmp_path / "model"
    links.mkdir()

    assert pod.prove(site.config, f"production-{descriptor.model_digest[:12]}", links) == len(descriptor.files)

    assert pod.prove(site.config, f"production-{descriptor.model_digest[:12]}", links) == 1, (
        "and once more in its place"
    )
    [weights] = descriptor.weights
    assert (links / Path(weights.path).name).read_bytes() == weights_file(b"GGUF weights")


def test_a_pod_refuses_changed_weights_and_what_nobody_approved(tmp_path: Path) -> None:
    site, descriptor = promoted_site(tmp_path / "box")
    [weights] = descriptor.weights
    place = ContentStore(site.config.at.store).object_path(weights.sha256)
    instance = f"production-{descriptor.model_digest[:12]}"
    place.chmod(0o600)
    place.write_bytes(b"GGUF WEIGHTS")
    with pytest.raises(StoreDamagedError):
        pod.prove(site.config, instance, tmp_path)
    place.write_bytes(b"GGUF weights")

    site.promote(digest("another"))

    with pytest.raises(NotPromotedError):
        pod.prove(site.config, instance, tmp_path)


def test_each_pods_ledger_has_a_key_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()

    assert pod.main(["key", str(one)]) == 0
    assert pod.main(["key", str(two)]) == 0

    before = FileKeys(one / "keys").public("ledger-checkpoint")
    assert before != FileKeys(two / "keys").public("ledger-checkpoint")
    assert pod.prepare(one) == []
    assert FileKeys(one / "keys").public("ledger-checkpoint") == before
    assert (one / "ledger").is_dir()
    assert (one / "spool").is_dir()


def test_a_pod_says_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert pod.main(["sing"]) == UsageError.exit_code
    assert "ask-ledger" in capsys.readouterr().err


def test_a_pod_says_whose_its_claim_has_to_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pod, "prepare", denied)

    assert pod.main(["key", "anywhere"]) == UsageError.exit_code
    assert "chown -R 65532:65532" in capsys.readouterr().err


def test_the_schema_refuses_images_by_tag_and_targets_outside_the_field(tmp_path: Path) -> None:
    made = exported(tmp_path)
    schema = json.loads((tmp_path / "out/sealift/values.schema.json").read_text())

    assert set(schema["properties"]) >= set(made.values)
    assert set(schema["required"]) == set(made.values)
    assert schema["properties"]["autoscaling"]["properties"]["targetPercent"]["minimum"] == 70


def test_a_pod_waits_for_no_other_box_and_calls_no_server(tmp_path: Path) -> None:
    site, _ = promoted_site(tmp_path / "box")
    beside = {
        "standby": {"lease": True, "listen": "10.0.0.1", "peer": "b", "peer_address": "10.0.0.2"},
        "engines": {"production": {"count": 2, "gpus": [6, 7]}},
        "review": {"one_in": 10},
        "siem": {"server": "logs", "address": "10.0.0.8"},
    }
    of_a_pair = configuration.Config.model_validate(site.config.model_dump() | beside)
    export(of_a_pair, tmp_path / "out", wishes())

    inside = configuration.load(tmp_path / "out/sealift/sealift.toml")

    assert {name: getattr(inside, name) for name in beside} == {
        name: getattr(configuration.Config(site="demo"), name) for name in beside
    }
    assert isinstance(permit_of(inside), Always)
