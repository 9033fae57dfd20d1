"""The facility's mail relay: `python -m tests.box.relay ADDRESS PORT FILE` in its name space keeps what it is given.

Each mail becomes a line of JSON, which is a text, at the end of FILE; until it is ended.
"""

import json
import sys
import time
from pathlib import Path

from tests.support.mailrelay import mail_relay


def main() -> None:
    """Take mails."""
    address, port, file = sys.argv[1:]
    written = 0
    with mail_relay(at=(address, int(port))) as relay:
        Path(file).touch()  # it listens
        while True:
            time.sleep(0.2)
            for mail in relay.mails[written:]:
                with Path(file).open("a") as kept:
                    kept.write(json.dumps(mail) + "\n")
                written += 1


if __name__ == "__main__":
    main()
