"""Mutation test: small faults are put into the code one at a time, and those that no test notices are printed.

    python tests/mutation.py [ROOM ...] [--sample N] [--seed K] [--only ID ...]

A room is a folder of src/cryoformer with its folder of tests. Its tests are run once to see which lines each test file
executes; then every mutant runs in a forked process, in a copy of the sources, against the test files that execute its
line, the quickest first, up to the first failure. A sample is drawn by a hash of what is mutated, so it stays the same
where code around it moves. Mutants that docs/testing.md lists as equivalent do not count. Needs fork (Unix).
"""

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"imaging": ["tests/imaging"], "linear": ["tests/linear"], "decode": ["tests/decode"]}
# Imported once, before forking: what takes long to import and is not under test.
PRELOADED = "torch scipy.ndimage sklearn.isotonic pandas roma hypothesis pydantic starfile mrcfile torch_ctf beartype"
OPERATORS = {
    ast.Lt: ["<=", ">="], ast.LtE: ["<", ">"], ast.Gt: [">=", "<="], ast.GtE: [">", "<"], ast.Eq: ["!="],
    ast.NotEq: ["=="], ast.Is: ["is not"], ast.IsNot: ["is"], ast.Add: ["-"], ast.Sub: ["+"], ast.Mult: ["/"],
    ast.Div: ["*"], ast.FloorDiv: ["*"], ast.Mod: ["*"], ast.Pow: ["*"], ast.BitAnd: ["|"], ast.BitOr: ["&"],
    ast.And: ["or"], ast.Or: ["and"],
}  # fmt: skip
TERMS = ast.Add | ast.Sub | ast.Mult | ast.Div | ast.BitAnd | ast.Pow
LEFT_ALONE = {"annotation", "returns", "decorator_list"}
SYMMETRIC = {"max", "min", "maximum", "minimum", "transpose"}  # in their arguments


@dataclass(frozen=True)
class Mutant:
    """A piece of a source file, and what stands there instead."""

    room: str
    file: Path  # below src
    lines: frozenset[int]
    place: slice
    old: str
    new: str
    key: str

    @property
    def id(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()[:8]


def replacements(node: ast.AST) -> Iterator[str]:
    """Source that could stand in place of a node: operators, dropped terms, methods and statements, constants."""
    text = ast.unparse
    match node:
        case ast.BinOp(left, op, right) | ast.Compare(left, [op], [right]) | ast.BoolOp(op, [left, right]):
            yield from (f"({text(left)}) {new} ({text(right)})" for new in OPERATORS.get(type(op), []))
            yield from [f"({text(left)})"] * isinstance(op, TERMS)
            yield from [f"({text(right)})"] * isinstance(op, ast.Add | ast.Mult | ast.BitAnd)
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield f"({text(operand)})"
        case ast.Constant(bool() as value):
            yield str(not value)
        case ast.Constant(int() | float() as value):
            yield str(value + 1 if isinstance(value, int) else 2 * value or 1.0)
        case ast.AugAssign() | ast.Expr(ast.Call()) | ast.Assign([ast.Subscript()]):
            yield "pass"
        case ast.If(test) | ast.IfExp(test):
            yield f"not ({text(test)})"
        case ast.Call(ast.Attribute(value)) if text(value).split(".")[0] not in {"torch", "np", "math", "nn"}:
            yield text(value)
    if isinstance(node, ast.Call) and len(node.args) > 1 and text(node.func).split(".")[-1] not in SYMMETRIC:
        yield text(ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords))


def mutants(room: str, path: Path) -> Iterator[Mutant]:
    """All mutants of a file. Annotations, decorators and texts are left alone."""
    source, seen = path.read_bytes(), Counter[str]()
    begins = [0, *(match.end() for match in re.finditer(b"\n", source))]

    def visit(node: ast.AST, scope: str, statement: int) -> Iterator[Mutant]:
        statement = node.lineno if isinstance(node, ast.stmt) else statement
        at = node.test if isinstance(node, ast.If | ast.IfExp) else node
        for new in replacements(node):
            place = slice(begins[at.lineno - 1] + at.col_offset, begins[at.end_lineno - 1] + at.end_col_offset)
            old = " ".join(source[place].decode().split())
            key = f"{scope} | {old} | {new}"
            seen[key] += 1
            lines = frozenset(range(at.lineno, at.end_lineno + 1)) | {statement}
            if new != ast.unparse(at):
                yield Mutant(room, path.relative_to(ROOT / "src"), lines, place, old, new, f"{key} | {seen[key]}")
        scope = f"{scope}.{node.name}" if isinstance(node, ast.FunctionDef | ast.ClassDef) else scope
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and name not in LEFT_ALONE and not isinstance(child, ast.JoinedStr):
                    yield from visit(child, scope, statement)

    yield from visit(ast.parse(source), "", 0)


class Watch:
    """Pytest plugin: the lines of ``src`` that every test file executes, and how long every test takes."""

    def __init__(self, src: Path) -> None:
        self.src, self.file = f"{src}/", ""
        self.lines: dict[str, set[str]] = defaultdict(set)
        self.seconds: Counter[str] = Counter()

    def trace(self, frame, event, _):
        path = frame.f_code.co_filename
        if event == "line":
            self.lines[self.file].add(f"{path.removeprefix(self.src)}:{frame.f_lineno}")
        return self.trace if path.startswith(self.src) else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.file = item.nodeid.split("::")[0]
        return (yield)

    def pytest_runtest_logreport(self, report) -> None:
        self.seconds[report.nodeid] += report.duration


class QuickestFirst:
    """Pytest plugin: test files in the order of the time they take, and the tests of each likewise."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.files = Counter(seconds), Counter()
        for test, each in seconds.items():
            self.files[test.split("::")[0]] += each

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items) -> None:
        items.sort(key=lambda item: (self.files[item.nodeid.split("::")[0]], self.seconds[item.nodeid]))


def run_tests(src: Path, tests: list[str], plugin: Watch | QuickestFirst, limit: float, found: Path) -> int | None:
    """Exit status of pytest in a forked process, on these sources; None if it took too long."""
    if (child := os.fork()) == 0:
        for stream in (1, 2) if isinstance(plugin, QuickestFirst) else ():
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        sys.path.insert(0, str(src))
        sys.settrace(plugin.trace if isinstance(plugin, Watch) else None)
        status = pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests], plugins=[plugin])
        sys.settrace(None)
        if isinstance(plugin, Watch):
            found.write_text(json.dumps([{file: sorted(x) for file, x in plugin.lines.items()}, plugin.seconds]))
        os._exit(status)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(ROOMS)} (all)")
    parser.add_argument("--sample", type=int, help="so many mutants, of all rooms together (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", nargs="+", metavar="ID", help="these mutants alone")
    given = parser.parse_args()
    os.chdir(ROOT)
    for name in PRELOADED.split():
        import_module(name)
    page = Path("docs/testing.md")
    equivalent = set(re.findall(r"^\| `([0-9a-f]{8})`", page.read_text(), re.MULTILINE)) if page.exists() else set()
    with tempfile.TemporaryDirectory() as folder:
        src, watched = Path(folder) / "src", Path(folder) / "watched.json"
        shutil.copytree("src", src, ignore=shutil.ignore_patterns("__pycache__"))
        reached: list[tuple[Mutant, list[str]]] = []
        seconds: dict[str, float] = {}
        for room in given.rooms or ROOMS:
            if run_tests(src, ROOMS[room], Watch(src), 1800, watched):
                sys.exit(f"{room}: its tests fail as they are")
            executed, times = json.loads(watched.read_text())
            seconds |= times
            for path in sorted((ROOT / "src/cryoformer" / room).glob("*.py")):
                for m in mutants(room, path):
                    lines = {f"{m.file}:{line}" for line in m.lines}
                    # What runs at import, before any test, concerns all.
                    files = [f for f in executed if f and lines & ({*executed[f]} | {*executed.get("", [])})]
                    reached += [(m, files)] if files and m.id not in equivalent else []
        print(f"{len(reached)} mutants on lines that the tests of their room execute, not listed as equivalent")
        reached.sort(key=lambda x: hashlib.sha256(f"{given.seed} {x[0].key}".encode()).digest())
        chosen = [x for x in reached if x[0].id in given.only] if given.only else reached[: given.sample]
        killed: Counter[str] = Counter()
        for number, (m, files) in enumerate(sorted(chosen, key=lambda x: (x[0].room, x[0].file, x[0].place.start))):
            path, source = src / m.file, (ROOT / "src" / m.file).read_bytes()
            new = m.new if m.new == "pass" else f"({m.new})"
            path.write_bytes(source[: m.place.start] + new.encode() + source[m.place.stop :])
            os.utime(path, (10**9 + number,) * 2)  # no compiled file of another mutant fits
            usual = sum(each for test, each in seconds.items() if test.split("::")[0] in files)
            status = run_tests(src, files, QuickestFirst(seconds), 30 + 5 * usual, watched)
            shutil.copy2(ROOT / "src" / m.file, path)
            killed[m.room] += status != 0
            fate = "survived" if status == 0 else "timed out" if status is None else "killed"
            line = source[: m.place.start].count(b"\n") + 1
            print(f"{fate:9} {m.id}  {m.file.relative_to('cryoformer')}:{line}  {m.old}  ->  {m.new}", flush=True)
        every = Counter(m.room for m, _ in chosen)
        for room, count in [*every.items(), ("all", len(chosen))]:
            number = killed.total() if room == "all" else killed[room]
            print(f"{room:8} {number:4} of {count:4} killed, {number / max(count, 1):.0%}")


if __name__ == "__main__":
    main()
