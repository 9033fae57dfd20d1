"""What the ledger records goes to the facility's collector, over TLS: none is left out when what sends it is killed.

A record may come twice, where the kill fell between its batch and the cursor; then it is the same both times.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.box import looks
from tests.box.network import FACILITY_ADDRESS
from tests.box.run import ROOT, Run
from tests.support import tls
from tests.support.mailrelay import certificate

_NAME = "siem.hospital.internal"
_PORT = 6514
SITE_FILE = f"""[siem]
server = "{_NAME}"
address = "{FACILITY_ADDRESS}"
port = {_PORT}
format = "json"
"""
_UNIT = "sealift-siem.service"
_AUTHORITY = "etc/sealift/collector-ca.pem"
# As they are in the file, which no program of the release is asked about.
_RECORDED = """
import sqlite3
ledger = sqlite3.connect("file:/var/lib/sealift/ledger/ledger.db?mode=ro", uri=True)
for sequence, leaf in ledger.execute("SELECT sequence, hash FROM leaf"):
    print(sequence, leaf.hex())
"""
_SECONDS = 30.0

Taken = Callable[[], Mapping[int, set[str]]]


@contextmanager
def collector(run: Run) -> Iterator[Taken]:
    """Run the facility's collector, as the site file names it, and let the box send its records there.

    Yields:
        What returns the records that it took: the leaf hashes under which each sequence came.
    """
    kept, trusted = run.out / "records", tls.authority()
    shown = certificate(run.out / "collector.pem", trusted, name=_NAME)
    place = run.machine.root / _AUTHORITY
    place.write_bytes(trusted.pem)
    place.chmod(0o644)
    words = [sys.executable, "-m", "tests.box.collector", FACILITY_ADDRESS, str(_PORT), str(kept), str(shown)]

    def taken() -> Mapping[int, set[str]]:
        found: dict[int, set[str]] = defaultdict(set)
        for line in kept.read_text().rpartition("\n")[0].splitlines():  # the last one may be on its way
            record = json.loads(line)
            found[record["sequence"]].add(record["leaf"])
        return found

    with subprocess.Popen(["ip", "netns", "exec", run.facility.name, *words], cwd=ROOT) as process:
        try:
            looks.wait(kept.exists, lambda: "the collector does not listen")
            run.machine.run("systemctl", "enable", "--now", _UNIT)
            looks.wait(lambda: bool(taken()), lambda: looks.journal(run, _UNIT))
            yield taken
        finally:
            process.kill()


def require_all(run: Run, taken: Taken) -> None:
    """Require that the collector has each record of the ledger as the ledger has it, and no other."""
    with run.stage.chapter("Every record is at the facility's collector"):
        lines = run.machine.run("python3", "-I", "-c", _RECORDED, shown=False).stdout.splitlines()
        recorded = {int(sequence): leaf for sequence, leaf in (line.split() for line in lines)}
        looks.wait(
            lambda: recorded.keys() <= taken().keys(),
            lambda: f"not all records came: {sorted(recorded.keys() - taken().keys())[:5]} {looks.journal(run, _UNIT)}",
            seconds=_SECONDS,
        )
        found = taken()
        wrong = [sequence for sequence, leaf in recorded.items() if found[sequence] != {leaf}]
        run.require("every record reaches the collector, also over the kill of what forwards them", not wrong, wrong)
        print(f"   {len(recorded)} records, none left out")
