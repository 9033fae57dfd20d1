"""Options that several commands share, written once: as the signature of the function that makes one thing of them."""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

Command = Callable[..., None]


def gathered(name: str, factory: Callable[..., Any], *, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Let a command take the parameters of `factory` in place of its own `name`, which gets what is made of them.

    Args:
        name: A parameter of the command.
        factory: Its parameters are annotated for typer and have defaults; called before the command.
        without: Parameters of `factory` that the command does not take, which keep their defaults.
    """
    every = inspect.signature(factory, eval_str=True).parameters
    options = {option: one for option, one in every.items() if option not in without}

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            made = factory(**{option: given.pop(option) for option in options})
            command(**given, **{name: made})

        parameters: list[inspect.Parameter] = []
        for parameter in own.parameters.values():
            if parameter.name != name:
                parameters.append(parameter)
                continue
            parameters += [one.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in options.values()]
        with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
        return with_options

    return decorate
