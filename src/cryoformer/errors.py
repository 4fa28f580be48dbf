"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is written for the user: which file and which row, what was expected there, what to do about it. The
    command line prints it as one line and exits with 2, without a traceback.
    """
