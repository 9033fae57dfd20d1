"""A folder of small real units, whose processes tell what they were given, and the configuration they run under."""

import sys
import tempfile
from pathlib import Path

from appliance.config import Config, PlacesSection, ServiceSection

_PROGRAM = """
import json, os, socket, sys, time

def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(os.environ["NOTIFY_SOCKET"])
        s.sendall(text.encode())

mode = sys.argv[1]
state = os.environ.get("STATE_DIRECTORY", "/nonexistent")
if os.path.isdir(state):
    with open(state + "/starts", "a") as f:
        f.write(mode + "\\n")
starts = len(open(state + "/starts").readlines()) if os.path.isdir(state) else 1
if mode == "fails":
    sys.exit(int(sys.argv[2]))
if mode == "fails-once" and starts == 1:
    notify("READY=1")
    time.sleep(0.05)
    sys.exit(9)
if mode == "stops-once":
    notify("READY=1")
    if starts == 1:
        os.kill(os.getpid(), 19)  # SIGSTOP: it is there, and nothing moves
    import threading
    alive = threading.Event()
    def live():
        while not alive.wait(0.1):
            notify("WATCHDOG=1")
    threading.Thread(target=live, daemon=True).start()
if mode == "silent":
    time.sleep(60)
if mode == "with-child":
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    open(state + "/child", "w").write(str(child))
mine = os.environ.get("LISTEN_PID") == str(os.getpid())
count = int(os.environ.get("LISTEN_FDS", "0")) if mine else 0
names = os.environ.get("LISTEN_FDNAMES", "").split(":")[:count]
sockets = [socket.socket(fileno=3 + n) for n in range(count)]
facts = {
    "names": names,
    "argv": sys.argv[1:],
    "credentials": {},
    "environment": sorted(k for k in os.environ if k != "LC_CTYPE"),
    "umask": oct(os.umask(0)),
    "fds": sorted(int(n) for n in os.listdir("/proc/self/fd")),
    "pid": os.getpid(),
}
folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
if folder:
    facts["credentials"] = {n: open(folder + "/" + n).read() for n in os.listdir(folder)}
notify("READY=1\\nSTATUS=ready")
while True:
    connection, _ = sockets[0].accept()
    connection.sendall(json.dumps(facts).encode())
    connection.close()
"""


def configuration(root: Path) -> Config:
    """Return a configuration below `root`, whose sockets lie in a short folder of their own."""
    run = tempfile.mkdtemp(prefix="sl-")
    return Config(
        site="test",
        environment="demo",
        places=PlacesSection(root=str(root), run=run),
        service=ServiceSection(gateway_port=0, admin_port=0),
    )


def write_units(root: Path, **modes: str) -> Path:
    """Write sealift-NAME.service and .socket for each NAME=MODE, a target that wants all, and their program."""
    folder, program = root / "units", root / "opt/sealift/current/program.py"
    folder.mkdir(parents=True)
    program.parent.mkdir(parents=True)
    program.write_text(_PROGRAM)
    for name, mode in modes.items():
        write_unit(folder, name, mode)
    wants = " ".join(f"sealift-{name}.service" for name in modes if "@" not in name)
    (folder / "sealift.target").write_text(f"[Unit]\nWants={wants}\n")
    return folder


def write_unit(folder: Path, name: str, mode: str, *, extra: str = "") -> None:
    """Write one service with its socket; `extra` are lines of its [Service] section."""
    socket_name = f"sealift-{name}.socket" if not name.endswith("_at") else f"sealift-{name[:-3]}@%i.socket"
    file_name = f"sealift-{name}" if not name.endswith("_at") else f"sealift-{name[:-3]}@"
    path = f"/run/sealift/{name}.sock" if not name.endswith("_at") else f"/run/sealift/{name[:-3]}-%i.sock"
    (folder / f"{file_name}.socket").write_text(f"[Socket]\nListenStream={path}\nFileDescriptorName={name}\n")
    (folder / f"{file_name}.service").write_text(
        "[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=60\n"
        "[Service]\nType=notify\nRestart=on-failure\nRestartSec=20ms\nRestartPreventExitStatus=50\n"
        f"Sockets={socket_name}\nStateDirectory=sealift/{name}\nStateDirectoryMode=0700\nTimeoutStopSec=2\n"
        f"ExecStart={sys.executable} -I /opt/sealift/current/program.py {mode}\n{extra}\n"
    )
