"""What work tells its caller: where it is, what a user gave that is wrong, and a comparison that failed."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is in all (in the same unit), and what is being worked on."""


class FactoryError(Exception):
    """Base of every error that is reported in one line; `exit_code` is the command's."""

    exit_code = 2


class InputError(FactoryError):
    """Something given by the user is not what it must be.

    `options` are the parameters that the message names: a command line shows them as its flags.
    """

    def __init__(self, message: str, *, options: tuple[str, ...] = ()):
        super().__init__(message)
        self.options = options


class ComparisonError(FactoryError):
    """Two things that must be equal differ, or nothing was compared."""

    exit_code = 1
