"""Who imports whom in ``src``: the order of the rooms, circles of files, and their picture.

``python tests/import_graph.py docs/images/imports.svg`` draws it (``make imports``).
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"

# A room knows only rooms that stand before it.
ROOMS = (
    "version",
    "errors",
    "communication",
    "settings",
    "files",
    "progress",
    "device",
    "memory",
    "checkpoint",
    "imaging",
    "particles",
    "formats",
    "simulate",
    "images",
    "linear",
    "model",
    "decode",
    "poses",
    "training",
    "parts",
    "run",
    "baselines",
    "assess",
    "validate",
    "explore",
    "states",
    "api",
    "demo",
    "cryoformer_experiments",
    "cli",
    "__main__",
)


def modules(source: Path = SOURCE) -> dict[str, Path]:
    """Every module by its dotted name; a package is its ``__init__``."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: Path = SOURCE) -> dict[str, set[str]]:
    """The modules that every module imports, wherever in the file; what only type checkers see is left out."""
    known = modules(source)
    graph = {}
    for name, path in known.items():
        wanted = set()
        for module, names in _imported(ast.parse(path.read_text(encoding="utf-8"))):
            inner = {f"{module}.{each}" for each in names} & set(known)
            # A name that is no module comes from the package's own file.
            wanted |= inner | ({module} if module in known and len(inner) < max(len(names), 1) else set())
        graph[name] = wanted - {name}
    return graph


def _imported(node: ast.AST) -> Iterator[tuple[str, list[str]]]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.Import):
        yield from ((alias.name, []) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module, [alias.name for alias in node.names]
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def room(module: str) -> str:
    """The folder, or the file at the top, that a module belongs to."""
    package, _, rest = module.partition(".")
    return rest.split(".")[0] if package == "cryoformer" and rest else {"cryoformer": "version"}.get(package, package)


def wrong_way(graph: dict[str, set[str]]) -> list[str]:
    """Imports of a room that stands later, or of one that has no place yet."""
    places = {name: place for place, name in enumerate(ROOMS)}
    lines = []
    for module, wanted in graph.items():
        for other in sorted(wanted):
            here, there = room(module), room(other)
            if here != there and places.get(there, len(ROOMS)) >= places.get(here, -1):
                lines.append(f"{module} imports {other}, but {here} stands before {there}")
    return lines


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Files that import one another, directly or by way of others (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            members = stack[stack.index(name) :]
            del stack[-len(members) :]
            if len(members) > 1:
                found.append(sorted(members))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def draw(graph: dict[str, set[str]], target: Path) -> None:
    """One dot a room, one arc for all imports between two of them; without errors and version, which all know."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Arc

    mpl.rcParams["svg.hashsalt"] = "imports"
    mpl.rcParams["svg.fonttype"] = "none"
    files = Counter(room(module) for module in graph)
    for known in ("errors", "version", "__main__"):
        del files[known]
    pairs = ((room(a), room(b)) for a, wanted in graph.items() for b in wanted)
    arrows = Counter((a, b) for a, b in pairs if a != b and {a, b} <= set(files))
    shown = [name for name in ROOMS if name in files]
    place = {name: number for number, name in enumerate(shown)}
    figure = Figure(figsize=(9.5, 0.34 * len(shown)))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    for (later, earlier), count in arrows.items():
        ends = place[later], place[earlier]
        right = ends[0] > ends[1]
        middle, reach = sum(ends) / 2, abs(ends[0] - ends[1])
        colour = f"C{place[earlier] % 10}" if right else "red"
        side = {"theta1": -90, "theta2": 90} if right else {"theta1": 90, "theta2": 270}
        axes.add_patch(
            Arc((0, middle), 0.9 * reach, reach, color=colour, alpha=0.75, lw=0.6 + 0.35 * count**0.5, **side)
        )
    for name, number in place.items():
        axes.plot(0, number, "o", color=f"C{number % 10}", markersize=4 + files[name] ** 0.5)
        axes.text(-0.5, number, f"{name}  ({files[name]})", ha="right", va="center", fontsize=9)
    axes.set(xlim=(-7, 0.46 * len(shown)), ylim=(len(shown) - 0.3, -0.7))
    axes.set_axis_off()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)


if __name__ == "__main__":
    found = imports()
    print("\n".join(wrong_way(found)) or "no wrong-way arrows")
    print("\n".join(", ".join(each) for each in circles(found)) or "no circles")
    if len(sys.argv) > 1:
        draw(found, Path(sys.argv[1]))
