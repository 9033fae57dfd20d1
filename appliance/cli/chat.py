"""`sealift chat`: a conversation from a terminal, which one question that was refused or stopped does not end."""

import re
import sys
from contextlib import suppress
from typing import Any, Final

import typer

from appliance.cli import context as shared
from appliance.cli.ask import Asker, asker, facts_of, not_readable, origin_of
from appliance.cli.gathering import gathered
from appliance.client.stream import Stream
from appliance.errors import ServiceError

_ANEW: Final = "/new"
_LEAVE: Final = frozenset({"/bye", "/exit", "/quit"})
_A_COMMAND: Final = re.compile(r"/[a-z?]*")
_HINT: Final = "/new begins anew, an empty line or /bye ends, Ctrl-C stops an answer"
# The key, what it may do, and the model: the next question would be refused for them, too.
_ENDS: Final = frozenset({401, 403, 404, 410})
_TOO_LONG: Final = "context_length_exceeded"

Said = list[tuple[str, str]]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("chat")(_chat)


@gathered("ready", asker)
def _chat(context: typer.Context, ready: Asker) -> None:
    """Talk with the promoted model; an empty line or /bye ends it, /new begins anew."""
    ours = shared.of(context)
    is_typed = sys.stdin.isatty() and sys.stdout.isatty()
    if is_typed:
        _edit_lines()
        ours.say(_HINT)
    said: Said = []
    answers: list[dict[str, Any]] = []
    with ready.client(ours) as client:
        while (question := _question(ours, is_typed=is_typed)) is not None:
            if question == _ANEW:
                said = []
            elif _A_COMMAND.fullmatch(question):
                ours.say(_HINT)
            else:
                asked = [*said, ("user", question)]
                stream: Stream | None = None
                try:
                    stream = ready.begin(client, asked)
                    answer = ready.show(ours, stream)
                except ServiceError as error:
                    if ours.as_json:
                        ours.result({"answers": answers, "error": error.to_json()}, "")
                        raise typer.Exit(error.exit_code) from error
                    _go_on_after(ours, error, is_typed=is_typed)
                except KeyboardInterrupt:
                    if not is_typed:
                        raise
                    said = _stopped(ours, stream, asked) or said
                else:
                    said = [*asked, ("assistant", answer.content)]
                    answers.append(facts_of(answer))
                    ours.say(origin_of(answer))
    ours.result({"answers": answers}, "")


def _edit_lines() -> None:
    """Let `input` edit a line, and take what is pasted as one question; what was typed is written nowhere."""
    with suppress(ImportError):
        import readline

        readline.parse_and_bind("set enable-bracketed-paste on")  # Python takes it off by itself


def _go_on_after(ours: shared.Context, error: ServiceError, *, is_typed: bool) -> None:
    """Say what went wrong with one question; what was said before is not lost by it.

    Raises:
        ServiceError: No question would be answered, or nobody is there to see that one was not.
    """
    if error.http_status in _ENDS or not is_typed:
        raise error
    ours.say(f"error: {error.what} ({error.why})")
    if error.service_code == _TOO_LONG:
        ours.say("  fix: /new begins anew, without what was said before")


def _stopped(ours: shared.Context, stream: Stream | None, asked: Said) -> Said:
    """Return the conversation with as much of an answer as was read; nothing where there was none."""
    ours.talk.print()
    if stream is None:
        ours.say("stopped before it was answered")
        return []
    ours.say(f"{stream.request_id}: stopped")
    return [*asked, ("assistant", stream.text)] if stream.text.strip() else []


def _question(ours: shared.Context, *, is_typed: bool) -> str | None:
    """Return the next question; None at the end."""
    while True:
        try:
            question = _line(ours, is_typed=is_typed).strip()
        except EOFError:
            ours.talk.print()
            return None
        except UnicodeDecodeError as error:
            raise not_readable() from error
        except KeyboardInterrupt:
            if not is_typed:
                raise
            ours.say(f"\n{_HINT}")
            continue
        return None if not question or question in _LEAVE else question


def _line(ours: shared.Context, *, is_typed: bool) -> str:
    if is_typed:
        return input("> ")
    ours.talk.print("> ", end="", markup=False)
    return sys.stdin.readline()
