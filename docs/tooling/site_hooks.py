"""What the site adds to the pages of docs/: the README as its first page, the changes, the API reference, and measured
figures that the pages refer to. Links to files outside docs/ are turned to where they stand on the site."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PACKAGE = "cryoformer"
# Read by people as they are: plain files of the site.
PLAIN = (
    "CITATION.cff", "LICENSE", "constraints.txt", "environment.yml",
    "containers/Dockerfile", "containers/cryoformer.def", "containers/cryoformer.lua",
)  # fmt: skip
LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(\))")


def on_config(config: Any) -> Any:
    """A page of the reference for every folder of the package."""
    pages = ["api/index.md", *(f"api/{name}.md" for name in _packages())]
    for section in config["nav"]:
        for entry in next(iter(section.values())) if isinstance(section, dict) else ():
            if isinstance(entry, dict) and "API reference" in entry:
                entry["API reference"] = pages
    return config


def on_files(files: Files, config: Any) -> Files:
    """The pages and files that do not lie in docs/."""
    add = {
        "index.md": (ROOT / "README.md").read_text(),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(),
        "api/index.md": _api_index(),
    }
    add |= {f"api/{name}.md": _api_page(name, folder) for name, folder in _packages().items()}
    for path, text in add.items():
        files.append(File.generated(config, path, content=text))
    for path in sorted((ROOT / "benchmarks").rglob("*")):
        if path.suffix in (".json", ".md", ".py", ".png"):
            files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    for name in PLAIN:
        if (ROOT / name).is_file():
            files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Links as the site has them."""
    here = page.file.src_uri
    # Where the page's own source lies: its links are relative to that place.
    source = {"index.md": "README.md", "changes.md": "CHANGELOG.md"}.get(here, f"docs/{here}")
    if here.startswith("benchmarks/"):
        source = here

    def moved(match: re.Match[str]) -> str:
        opening, target, anchor, closing = match[1], match[2], match[3] or "", match[4]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path.startswith(f"src/{PACKAGE}/") and path.endswith(".py"):
            return f"{opening}{_relative(_api_of(path), here)}#{_module(path)}{closing}"
        if path.startswith(("src/", "recipes", "viewer", "tests")):
            return f"{opening}{_relative('code_map.md', here)}{closing}"
        place = {"README.md": "index.md", "CHANGELOG.md": "changes.md"}.get(path, path.removeprefix("docs/"))
        return f"{opening}{_relative(place, here)}{anchor}{closing}"

    return LINK.sub(moved, markdown)


def _relative(target: str, page: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def _packages() -> dict[str, Path]:
    """Every folder of the package that holds modules, by the name of its page."""
    top = ROOT / "src" / PACKAGE
    folders = [top, *sorted({path.parent for path in top.rglob("*.py")} - {top})]
    return {_page_name(folder): folder for folder in folders}


def _page_name(folder: Path) -> str:
    return ".".join(folder.relative_to(ROOT / "src").parts)


def _module(path: str) -> str:
    parts = Path(path).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _api_of(path: str) -> str:
    return f"api/{_page_name(ROOT / Path(path).parent)}.md"


def _api_index() -> str:
    lines = [f"* [{name}]({name}.md)\n" for name in _packages()]
    return (
        "# API reference\n\nFrom the docstrings, folder by folder. The order in which data passes through them is on "
        f"the [map of the code](../code_map.md).\n\n{''.join(lines)}"
    )


def _api_page(name: str, folder: Path) -> str:
    text = [f"# {name}\n"]
    for path in sorted(folder.glob("*.py"), key=lambda p: (p.name != "__init__.py", p.name)):
        module = _module(str(path.relative_to(ROOT)))
        text.append(f"## {path.stem if path.name != '__init__.py' else name} {{ #{module} }}\n\n::: {module}\n")
    return "\n".join(text)
