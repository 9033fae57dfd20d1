"""The facility's mail relay: `python -m tests.box.relay ADDRESS PORT FILE [CERTIFICATE]` keeps what it is given.

In the facility's name space. Each mail becomes a line of JSON, its text and whether it came over TLS, at the end of
FILE; until it is ended. With a certificate and its key in a file it takes no mail without TLS.
"""

import json
import sys
import time
from pathlib import Path

from tests.support.mailrelay import certified, mail_relay


def main() -> None:
    """Take mails."""
    address, port, file, *certificate = sys.argv[1:]
    offered = certified(Path(certificate[0])) if certificate else None
    written = 0
    with mail_relay(offered, at=(address, int(port))) as relay:
        Path(file).touch()  # it listens
        while True:
            time.sleep(0.2)
            for text, is_secured in list(zip(relay.mails, relay.secured, strict=False))[written:]:
                with Path(file).open("a") as kept:
                    kept.write(json.dumps({"text": text, "is_secured": is_secured}) + "\n")
                written += 1


if __name__ == "__main__":
    main()
