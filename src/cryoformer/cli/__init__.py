"""The ``cryoformer`` command: parse, call one function, print.

Whatever is heavy is imported inside the commands, so that ``--version`` and ``--help`` answer at once. Errors of the
user's input are one line on stderr and exit code 2; an interrupt is exit code 130.
"""

import difflib
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module

from cryoformer import __version__
from cryoformer.errors import InputError, ProcessLost, SharedInputError

# Modules of this folder that hold commands, in the order of a project, which is that of --help.
COMMANDS = (
    "simulate", "check", "files", "convert", "abinitio", "refine", "expand", "train", "analyze", "view", "validate",
    "state", "free_energy", "subtract", "baseline", "compare", "benchmark",
)  # fmt: skip
DESCRIPTION = "Continuous heterogeneous reconstruction for cryo-EM."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 2 for wrong input, 130 for an interrupt."""
    # OpenMP threads that wait for each other should sleep: spinning, they lose two thirds of the speed wherever another
    # program wants a core. Read once, when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        print(f"cryoformer {__version__}")
        return 0
    # Importing a module adds its commands.
    for name in COMMANDS:
        import_module(f"cryoformer.cli.{name}")
    from cryoformer.cli.arguments import app

    # What the library has to say (contrast, pixel sizes, progress) goes to stderr; stdout is for results.
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("cryoformer").setLevel(logging.INFO)
    try:
        given = _read_plugins(given)
        _check_command(given)
        app.cli(args=given, prog="cryoformer", description=f"{DESCRIPTION} Version {__version__} (--version).")
    except SharedInputError as error:
        if error.tells:
            print(f"cryoformer: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        error.told()
        return 2
    except ProcessLost as error:
        print(f"cryoformer: {error}; {_how_to_go_on(given)}", file=sys.stderr)
        return 1
    except InputError as error:
        print(f"cryoformer: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"cryoformer: interrupted; {_how_to_go_on(given)}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as head, has seen enough; keep the interpreter's last flush from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, MemoryError, RuntimeError) as error:
        said = _said_by_the_system(error)
        if said is None:
            raise
        print(f"cryoformer: error: {said}", file=sys.stderr)
        return 2
    return 0


def _said_by_the_system(error: Exception) -> str | None:
    """What the system refused, in one line; None for errors of the program."""
    from cryoformer.files import reason

    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return f"{error.filename or 'the output'}: {reason(error)}"
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error):
        return (
            "the memory is not enough; make the images smaller with 'cryoformer downsample', give less to "
            "--memory-gib, or use a machine with more"
        )
    return None


def _check_command(given: list[str]) -> None:
    """A command that does not exist, with the one that was meant.

    Raises:
        InputError: there is no such command.
    """
    from cryoformer.cli.arguments import app

    commands = list(app._subcommands)
    if given and not given[0].startswith("-") and given[0] not in commands:
        close = difflib.get_close_matches(given[0], commands, n=1)
        meant = f"did you mean 'cryoformer {close[0]}'?" if close else f"expected one of {', '.join(commands)}"
        raise InputError(f"there is no command '{given[0]}': {meant} ('cryoformer --help' tells what each does)")


def _read_plugins(given: list[str]) -> list[str]:
    """Run the files of ``--plugin FILE`` before the command: they register networks (:mod:`cryoformer.model.registry`).

    Raises:
        InputError: no such file, or one that fails.
    """
    if given[:1] == ["--plugin"]:
        from cryoformer.model.registry import read_plugin
    while given[:1] == ["--plugin"]:
        path = given[1] if len(given) > 1 else ""
        read_plugin(path)
        given = given[2:]
    return given


def _how_to_go_on(given: list[str]) -> str:
    if given[:1] == ["train"]:
        return f"go on with: {shlex.join(['cryoformer', *given, *([] if '--resume' in given else ['--resume'])])}"
    if given[:1] in (["benchmark"], ["refine"], ["abinitio"]):
        return f"go on with: {shlex.join(['cryoformer', *given])}"
    return f"start again with: {shlex.join(['cryoformer', *given])}"
