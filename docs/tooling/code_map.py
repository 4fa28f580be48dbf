"""docs/code_map.md: every folder and file of src/ and viewer/src/ in one line, from what each says of itself first.

That is a module's docstring, or the first comment of any other file. What the page holds beyond that, the order of the
rooms and the walk of an image, is checked against the code when the page is made.
"""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/cryoformer"

# Folders of the package in the order in which data crosses them; new ones are appended by name.
ORDER = (
    "formats", "particles", "images", "imaging", "linear", "decode", "model", "training", "poses", "parts", "run",
    "baselines", "assess", "validate", "explore", "simulate", "cli", "data",
)  # fmt: skip

# Files that cannot say it themselves.
DESCRIBED = {
    "py.typed": "This package carries its types.",
    "adk_1ake_A.cif": "Adenylate kinase, closed (PDB 1AKE, chain A).",
    "adk_4ake_A.cif": "Adenylate kinase, open (PDB 4AKE, chain A).",
    "static/viewer.css": "Made from viewer/src by `make viewer`: the look of the page.",
    "static/viewer.js": "Made from viewer/src by `make viewer`: the page's program.",
}

# Room, names in it, what happens to the image there.
WALK = (
    ("formats", ("load.load_particles",), "the table: which image is where, its pose, CTF, optics group and half-set"),
    ("particles", ("stack.ImageStacks",), "its pixels are read from the stack on disk, as float32 [D, D]"),
    ("images", ("preparation.PreparedParticles", "fourier_images.Images"),
     "background normalised, contrast turned, Fourier transform, common box, shift taken out, CTF; then kept in memory "
     "or read ahead as it is used"),
    ("decode", ("density_model.ConformationModel",),
     "the density that its latent stands for is decoded (`model`), projected at its pose and multiplied by its CTF "
     "(`imaging`)"),
    ("training", ("trainer.StageTrainer",), "the noise-weighted squared difference of the two is the loss"),
)  # fmt: skip

INTRODUCTION = """# Map of the code

Every folder and file of `src/` and `viewer/src/` in one line. Made by `python docs/tooling/generate.py` from the first
lines of the files themselves; a test fails where it is out of date.

## The walk of an image from disk to loss

| room | where | what happens |
|---|---|---|
"""


def code_map() -> str:
    """The page.

    Raises:
        AttributeError, ModuleNotFoundError: the walk names what is not there.
        ValueError: a file that says nothing of itself.
    """
    text = INTRODUCTION
    for room, names, what in WALK:
        for name in names:
            module, member = name.rsplit(".", 1)
            getattr(import_module(f"cryoformer.{room}.{module}"), member)
        text += f"| `{room}/` | {', '.join(f'`{name}`' for name in names)} | {what} |\n"
    text += (
        "\nBefore training, `linear/` has made the consensus and the latents from the same images, in closed form.\n\n"
        "## Who imports whom\n\nA room knows only rooms above it, and no files import one another in circles: "
        "`tests/test_architecture.py` holds it, `make imports` draws it.\n\n"
        "![An arc for all imports between two rooms](images/imports.svg)\n"
    )
    text += "".join(_section(folder) for folder in _folders())
    return text + _section(ROOT / "viewer/src")


def _folders() -> Iterator[Path]:
    yield PACKAGE
    names = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    for name in [*(name for name in ORDER if name in names), *sorted(names - set(ORDER))]:
        yield PACKAGE / name
        yield from sorted(path for path in (PACKAGE / name).rglob("*") if path.is_dir() and path.name != "__pycache__")
    others = (path for path in (ROOT / "src").iterdir() if path.is_dir() and path != PACKAGE)
    for other in sorted(path for path in others if (path / "__init__.py").is_file()):
        yield other
        yield from sorted(path for path in other.rglob("*") if path.is_dir() and path.name != "__pycache__")


def _section(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".pyc")
    head, rows = folder.relative_to(ROOT).as_posix(), []
    title = ""
    for path in files:
        if path.name == "__init__.py":
            title = first_line(path)
        else:
            rows.append(f"| `{path.name}` | {first_line(path).replace('|', chr(92) + '|')} |")
    table = "| | |\n|---|---|\n" + "\n".join(rows) + "\n" if rows else ""
    return "\n".join(("", f"## {head}", "", *((title, "") if title else ()), table)).rstrip() + "\n"


def first_line(path: Path) -> str:
    """What a file says of itself, in one line."""
    for name in (path.name, f"{path.parent.name}/{path.name}"):
        if name in DESCRIBED:
            return DESCRIBED[name]
    text = path.read_text()
    if path.suffix == ".py":
        said = ast.get_docstring(ast.parse(text)) or ""
    else:
        comment = re.search(r"<!-- (.+?) -->|/\* (.+?) \*/|^(?://|#) ?((?:.+\n(?:// ?|# ?)?)+)", text, re.M | re.S)
        title = re.search(r"^title: (.+)", text, re.M) if path.suffix == ".yaml" else None
        said = title[1] if title else next(filter(None, comment.groups()), "") if comment else ""
    said = re.sub(r"^(?://|#) ?", "", said.split("\n\n")[0], flags=re.M)
    said = " ".join(said.split())
    if not said:
        raise ValueError(f"{path}: says nothing of itself in its first lines")
    # One sentence, unless the whole paragraph is short.
    sentence = re.match(r".+?[.!?](?= [A-Z])", said)
    said = sentence[0] if sentence and len(said) > 160 else said
    said = re.sub(r":(?:class|func|meth|mod|attr):`~?\.?([\w.]+)`", r"`\1`", said)
    return said.replace("``", "`")
