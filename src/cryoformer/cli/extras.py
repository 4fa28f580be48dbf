"""What a command needs besides the core: said before any work, with the line that installs it."""

from importlib.util import find_spec

from cryoformer.errors import InputError

# Extra of the package -> modules that it brings.
EXTRAS = {
    "report": ("jinja2", "matplotlib", "skimage"),
    "simulate": ("gemmi",),
    "umap": ("umap",),
    "view": ("aiohttp", "skimage"),
}


def need(command: str, *extras: str) -> None:
    """Check that the extras which ``command`` uses are installed.

    Raises:
        InputError: what is missing.
    """
    lacking = [extra for extra in extras if not all(_is_there(module) for module in EXTRAS[extra])]
    if lacking:
        missing = sorted({module for extra in lacking for module in EXTRAS[extra] if not _is_there(module)})
        raise InputError(f"{command} needs {', '.join(missing)}: pip install 'cryoformer[{','.join(lacking)}]'")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
