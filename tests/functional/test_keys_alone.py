"""Two commands never change a box's keys at once: the second goes on when the first has ended, also by being killed."""

import fcntl
import os
import threading
from pathlib import Path

from appliance.cli.boxkeys import keyring_of
from appliance.cli.context import Context
from tests.support.ledger import ledger_site


def test_a_second_command_waits_for_the_first_and_then_sees_what_it_made(tmp_path: Path) -> None:
    with ledger_site(tmp_path / "b", site="demo-clinic") as box, box.running():
        own = Context(config_path=box.config_file)
        made: list[tuple[int, ...]] = []

        def rotate() -> None:
            with keyring_of(own) as keyring:
                made.append(keyring.rotate("session", reason="yearly").versions)

        other = threading.Thread(target=rotate)
        folder = os.open(box.places.key_files, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            other.start()
            other.join(0.5)
            assert not made
            assert other.is_alive()
        finally:
            os.close(folder)  # as the kernel does it for a command that was killed
        other.join(20)

        assert made == [(1, 2)]
