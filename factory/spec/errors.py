"""The package's exceptions: what a user did wrong, and a comparison that failed."""


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
