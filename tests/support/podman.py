"""Containers as a cluster's node runs them: images built without a network, volumes laid down as the kubelet does."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from appliance.actions.kubernetes.pod import USER
from media.digest import sha256_hex
from tests.box.debian import debian

LIMITS = ("--ulimit=nofile=8192:8192", "--ulimit=nproc=8192:8192")
"""Podman would raise both, which whoever runs the tests may not be allowed to."""
_BASE = "python3,python3-venv,gpgv,libgomp1"
_STAMP = "..2026_11_23_00_00_00.1"


def base_folder() -> Path:
    """Return a folder of a Debian 12 with what docs/operator/kubernetes.md asks of BASE; made if there is none."""
    return debian(f"container-{sha256_hex(_BASE.encode())[:16]}", _BASE)


@dataclass(frozen=True, slots=True)
class Podman:
    """Images and containers of this test run alone, below a folder."""

    folder: Path

    def run(
        self, *words: str | Path, check: bool = True, fed: IO[bytes] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run podman, fed on standard input or with nothing; return what it said."""
        done = subprocess.run(
            [*self._own(), *words], stdin=fed or subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, (words, done.stdout[-3000:], done.stderr[-3000:])
        return done

    def base(self) -> str:
        """Import the base; return its name with its digest."""
        tar: list[str | Path] = ["tar", "-C", base_folder(), "--exclude=./var/cache/apt/archives/*.deb", "-c", "."]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
            self.run("import", "--quiet", "-", "base", fed=packed.stdout)
        assert packed.returncode == 0
        return self.pinned("localhost/base")

    def build(self, containerfile: Path, base: str, name: str) -> str:
        """Build an image without a network as docs/operator/kubernetes.md says; return its name with its digest."""
        words: list[str | Path] = [
            "--network=none",
            "--pull=never",
            "--build-arg",
            f"BASE={base}",
            "-f",
            containerfile,
            "-t",
            name,
        ]
        self.run("build", *words, containerfile.parent)
        return self.pinned(f"localhost/{name}")

    def pinned(self, name: str) -> str:
        """Return an image's name with its digest."""
        [image] = json.loads(self.run("image", "inspect", name).stdout)
        return f"{name}@{image['Digest']}"

    def _own(self) -> list[str | Path]:
        # crun takes no hybrid hierarchy of cgroups, which machines for tests have.
        words = ["podman", "--runtime=runc", "--cgroup-manager=cgroupfs"]
        return [*words, "--root", self.folder / "root", "--runroot", self.folder / "run"]

    def close(self) -> None:
        """End all containers and take everything away."""
        self.run("rm", "--all", "--force", "--time=0", check=False)
        self.run("rmi", "--all", "--force", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _mount(path: Path, mode: int) -> None:
    """Give a file or folder to root and the pod's group."""
    os.chown(path, 0, USER)
    path.chmod(mode)


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Tell whether an init container goes on as long as the pod does."""
    return container.get("restartPolicy") == "Always"


def give_to_pods(folder: Path) -> None:
    """Do what docs/operator/kubernetes.md says of a claim's folders."""
    subprocess.run(["chown", "-R", f"{USER}:{USER}", folder], check=True)


def as_mounted(folder: Path, files: Mapping[str, bytes], *, mode: int) -> Path:
    """Lay files down as the kubelet mounts secrets and config maps: links, by way of another, to a folder with a date.

    With an `fsGroup` the group may read, whatever the mode says.
    """
    dated = folder / _STAMP
    dated.mkdir(parents=True)
    for name, data in files.items():
        (dated / name).write_bytes(data)
        _mount(dated / name, mode | 0o440)
        (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data").symlink_to(_STAMP)
    for each in (folder, dated):
        _mount(each, 0o2755)
    return folder


def empty(folder: Path) -> Path:
    """Make a volume with nothing in it, which the pod's group may write to."""
    folder.mkdir(parents=True)
    _mount(folder, 0o2777)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod by its rendered manifest: its containers share a network namespace and volumes.

    Args:
        podman: Where its images are.
        name: The pod's.
        spec: `spec` of the pod's template.
        volumes: The folder behind each volume's name.
        namespace: The network namespace's name, see `ip netns`.
    """

    podman: Podman
    name: str
    spec: Mapping[str, Any]
    volumes: Mapping[str, Path]
    namespace: str
    started: list[str] = field(default_factory=list)

    def begin(self, container: Mapping[str, Any]) -> "subprocess.CompletedProcess[str]":
        """Run an init container to its end."""
        return self.podman.run("run", "--rm", *self._words(container), check=False)

    def start(self, container: Mapping[str, Any]) -> None:
        """Start a container that goes on."""
        self.podman.run("run", "--detach", "--name", self._named(container["name"]), *self._words(container))
        self.started.append(container["name"])

    def ask(self, container: str, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Run a command in a container."""
        return self.podman.run("exec", self._named(container), *command, check=False)

    def is_well(self, container: Mapping[str, Any], probe: str) -> bool:
        """Ask a probe as the kubelet does: one that takes longer than its time says no."""
        began = time.monotonic()
        done = self.ask(container["name"], container[probe]["exec"]["command"])
        return done.returncode == 0 and time.monotonic() - began <= container[probe].get("timeoutSeconds", 1)

    def log(self, container: str) -> str:
        """Return what a container wrote."""
        done = self.podman.run("logs", self._named(container), check=False)
        return done.stdout + done.stderr

    def is_running(self, container: str) -> bool:
        """Tell whether it still runs."""
        told = self.podman.run("inspect", "--format", "{{.State.Running}}", self._named(container)).stdout
        return told.strip() == "true"

    def stop(self) -> None:
        """End the containers, then the sidecars, the last one first, as a cluster does; each has to end itself."""
        end = time.monotonic() + self.spec["terminationGracePeriodSeconds"]
        sidecars = [[one["name"]] for one in reversed(self.spec["initContainers"]) if is_sidecar(one)]
        for wave in ([one["name"] for one in self.spec["containers"]], *sidecars):
            names = [self._named(one) for one in wave if one in self.started]
            if names:
                self.podman.run("stop", f"--time={max(int(end - time.monotonic()), 0)}", *names)
        names = [self._named(one) for one in self.started]
        self.started.clear()
        if names:
            told = self.podman.run("inspect", "--format", "{{.Name}} {{.State.ExitCode}}", *names).stdout
            self.podman.run("rm", *names)
            assert not [line for line in told.splitlines() if line.endswith(" 137")], told

    def _named(self, container: str) -> str:
        return f"{self.name}-{container}"

    def _words(self, container: Mapping[str, Any]) -> list[str]:
        security = {**self.spec["securityContext"], **container["securityContext"]}
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        words = [
            f"--network=ns:/run/netns/{self.namespace}",
            "--pull=never",
            f"--user={security['runAsUser']}:{security['runAsGroup']}",
            f"--group-add={security['fsGroup']}",
            *(f"--cap-drop={one}" for one in security["capabilities"]["drop"]),
            f"--memory={container['resources']['limits']['memory'].lower().replace('i', '')}",
            "--read-only-tmpfs=false",
            "--passwd=false",  # other runtimes do not name the user either
            *LIMITS,
        ]
        if security["readOnlyRootFilesystem"]:
            words.append("--read-only")
        if not security["allowPrivilegeEscalation"]:
            words.append("--security-opt=no-new-privileges")
        words += [f"--env={one['name']}={one['value']}" for one in container.get("env", [])]
        for mount in container["volumeMounts"]:
            source = self.volumes[mount["name"]] / mount.get("subPath", "")
            words.append(f"--volume={source}:{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}")
        command = [str(one) for one in (*container["command"], *container.get("args", []))]
        return [*words, "--entrypoint", json.dumps(command[:1]), container["image"], *command[1:]]
