"""What ends a command with one line: wrong input, as opposed to a wrong program, or another process that has gone."""

from collections.abc import Callable


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is written for the user: which file and which row, what was expected there, what to do about it. The
    command line prints it as one line and exits with 2, without a traceback.
    """


class SharedInputError(InputError):
    """An :class:`InputError` that all processes of a run raise, so that it is told once.

    Attributes:
        tells: whether this is the process that tells it.
        told: to be called by all when it has been told; they then end together.
    """

    def __init__(self, message: str, tells: bool, told: Callable[[], None]) -> None:
        super().__init__(message)
        self.tells, self.told = tells, told


class ProcessLost(Exception):
    """Another process of the run has ended, and with it the run; its last checkpoint is there to go on from."""
