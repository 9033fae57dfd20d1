"""A person at a terminal of the box: questions are read as they appear there, and answered one by one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.box.machine import BoxError, Machine

_SILENT_SECONDS = 900  # an install says nothing while its playbook runs
# Runs in the box, with the box's own Python, because the terminal has to be one of the box.
_TERMINAL = """
import json, os, pty, select, sys
words, talk, patience = json.load(sys.stdin)
child, line = pty.fork()
if child == 0:
    os.execvp(words[0], words)
said, read = "", 0
while select.select([line], [], [], patience)[0]:
    try:
        piece = os.read(line, 65536)
    except OSError:
        break
    if not piece:
        break
    said += piece.decode(errors="replace")
    while talk and talk[0][0] in said[read:]:
        question, answer = talk.pop(0)
        read = said.index(question, read) + len(question)
        os.write(line, answer.encode() + b"\\n")
else:
    os.kill(child, 9)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps({"code": code, "said": said.replace("\\r\\n", "\\n"), "unasked": [one for one, _ in talk]}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What stood on the terminal at the end, the program's exit status, and which questions never came."""

    code: int
    said: str
    unasked: list[str]


def at_terminal(machine: Machine, words: Sequence[str], talk: Sequence[tuple[str, str]]) -> Spoken:
    """Run a program of the box at a terminal; type each answer when the text of its question has appeared.

    Args:
        machine: The box.
        words: The program and its arguments.
        talk: Texts of the questions, in order, each with what is typed; an empty answer takes what is offered.

    Raises:
        BoxError: The terminal could not be made, or the box ended.
    """
    feed = json.dumps([list(words), [list(one) for one in talk], _SILENT_SECONDS])
    done = machine.run("python3", "-I", "-c", _TERMINAL, feed=feed, shown=False, may_fail=True)
    try:
        return Spoken(**json.loads(done.stdout))
    except ValueError as error:
        message = f"the terminal ended with {done.returncode}: {done.stderr[-500:]}"
        raise BoxError(message) from error
