"""Mutation test: small faults are put into the code one at a time, and those that no test notices are printed.

    python tests/mutation.py [ROOM ...] [--sample N] [--seed K] [--only ID ...]

A room is a folder of src/cryoformer (or a file of one) and its folder of tests. Its tests are run once to see which
lines each test file executes; every mutant then runs in a forked process, in a copy of the sources, against the test
files that execute its line, the quickest tests first, up to the first failure. A sample is drawn by a hash of what is
mutated, so it stays the same where code around it changes or moves. Mutants that docs/testing.md lists as equivalent
do not count. Unix only (fork); some 5 s a mutant on one core.
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
ROOMS = {
    "imaging": ("imaging/*.py", ["tests/imaging"]),
    "linear": ("linear/*.py", ["tests/linear"]),
    "decode": ("decode/*.py", ["tests/decode"]),
    "fsc": ("assess/fsc.py", ["tests/assess/test_fsc.py"]),
}
# Imported once, before forking: what takes long to import and is not under test.
PRELOADED = "torch scipy.ndimage sklearn.isotonic pandas roma hypothesis pydantic starfile mrcfile torch_ctf beartype"
OPERATORS: dict[type, list[str]] = {
    ast.Lt: ["<=", ">="], ast.LtE: ["<", ">"], ast.Gt: [">=", "<="], ast.GtE: [">", "<"], ast.Eq: ["!="],
    ast.NotEq: ["=="], ast.Is: ["is not"], ast.IsNot: ["is"], ast.Add: ["-"], ast.Sub: ["+"], ast.Mult: ["/"],
    ast.Div: ["*"], ast.FloorDiv: ["*"], ast.Mod: ["*"], ast.Pow: ["*"], ast.BitAnd: ["|"], ast.BitOr: ["&"],
    ast.And: ["or"], ast.Or: ["and"],
}  # fmt: skip
TERMS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.BitAnd, ast.Pow)
MODULES = {"torch", "np", "math", "nn"}


@dataclass(frozen=True)
class Mutant:
    """A piece of a source file and what stands there instead."""

    room: str
    file: Path  # below src
    line: int
    start: int
    end: int
    old: str
    new: str
    lines: frozenset[int]
    key: str

    @property
    def id(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()[:8]

    def __str__(self) -> str:
        return f"{self.id}  {self.file.relative_to('cryoformer')}:{self.line}  {self.old}  ->  {self.new}"


def replacements(node: ast.AST) -> Iterator[str]:
    """Source that could stand in place of a node."""
    text = ast.unparse
    match node:
        case ast.BinOp(left, op, right):
            yield from (f"({text(left)}) {new} ({text(right)})" for new in OPERATORS.get(type(op), []))
            yield from (f"({text(left)})",) * isinstance(op, TERMS)
            yield from (f"({text(right)})",) * isinstance(op, (ast.Add, ast.Mult, ast.BitAnd))
        case ast.Compare(left, [op], [right]):
            yield from (f"({text(left)}) {new} ({text(right)})" for new in OPERATORS.get(type(op), []))
        case ast.BoolOp(op, [left, right]):
            yield f"({text(left)}) {OPERATORS[type(op)][0]} ({text(right)})"
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield f"({text(operand)})"
        case ast.Constant(bool() as value):
            yield str(not value)
        case ast.Constant(int() as value):
            yield str(value + 1)
        case ast.Constant(float() as value):
            yield str(2 * value if value else 1.0)
        case ast.AugAssign() | ast.Expr(ast.Call()) | ast.Assign([ast.Subscript()]):
            yield "pass"
        case ast.If() | ast.IfExp():
            yield ""  # the test is negated, see `mutants`
        case ast.Call(ast.Attribute(value), _, _) if text(value).split(".")[0] not in MODULES:
            yield text(value)
    if isinstance(node, ast.Call) and len(node.args) > 1 and not any(isinstance(a, ast.Starred) for a in node.args):
        first, second, *rest = node.args
        yield text(ast.Call(node.func, [second, first, *rest], node.keywords))


def mutants(room: str, path: Path) -> Iterator[Mutant]:
    """All mutants of a file. Annotations, docstrings and decorators are left alone."""
    source = path.read_bytes()
    begins = [0, *(match.end() for match in re.finditer(b"\n", source))]
    seen: Counter[str] = Counter()

    def visit(node: ast.AST, scope: str, statement: int) -> Iterator[Mutant]:
        statement = node.lineno if isinstance(node, ast.stmt) else statement
        place = node.test if isinstance(node, ast.If | ast.IfExp) else node
        for new in replacements(node):
            start, end = (begins[a - 1] + b for a, b in ((place.lineno, place.col_offset),
                                                         (place.end_lineno, place.end_col_offset)))  # fmt: skip
            old = source[start:end].decode()
            new = new or f"not ({old})"
            key = f"{scope} | {' '.join(old.split())} | {new}"
            seen[key] += 1
            lines = frozenset(range(place.lineno, place.end_lineno + 1)) | {statement}
            yield Mutant(room, path.relative_to(ROOT / "src"), place.lineno, start, end, " ".join(old.split()),
                         new, lines, f"{key} | {seen[key]}")  # fmt: skip
        scope = f"{scope}.{node.name}" if isinstance(node, ast.FunctionDef | ast.ClassDef) else scope
        for name, value in ast.iter_fields(node):
            if name not in {"annotation", "returns", "decorator_list"}:
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        yield from visit(child, scope, statement)

    yield from visit(ast.parse(source), "", 0)


class Watch:
    """Pytest plugin: which lines of ``src`` every test file executes, and how long every test takes."""

    def __init__(self, src: Path) -> None:
        self.src, self.file = str(src), ""
        self.lines: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self.seconds: Counter[str] = Counter()

    def trace(self, frame, event, _):
        if event == "line":
            self.lines[self.file].add((frame.f_code.co_filename[len(self.src) + 1 :], frame.f_lineno))
        return self.trace if frame.f_code.co_filename.startswith(self.src) else None

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self.file = item.nodeid.split("::")[0]
        yield

    def pytest_runtest_logreport(self, report) -> None:
        self.seconds[report.nodeid] += report.duration


class Quickest:
    """Pytest plugin: test files in the order of the time they take, and the tests of each likewise."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = Counter(seconds)
        self.files: Counter[str] = Counter()
        for test, each in seconds.items():
            self.files[test.split("::")[0]] += each

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items) -> None:
        items.sort(key=lambda item: (self.files[item.nodeid.split("::")[0]], self.seconds[item.nodeid]))


def forked(src: Path, tests: list[str], plugin: object, limit: float, result: Path | None = None) -> int | None:
    """Exit status of pytest on the copy of the sources; None if it took too long."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.path.insert(0, str(src))
        if isinstance(plugin, Watch):
            sys.settrace(plugin.trace)
        status = pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests], plugins=[plugin])
        sys.settrace(None)
        if isinstance(plugin, Watch) and result:
            lines = {file: sorted(lines) for file, lines in plugin.lines.items()}
            result.write_text(json.dumps({"lines": lines, "seconds": plugin.seconds}))
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
    parser.add_argument("rooms", nargs="*", default=[], metavar="ROOM", help=f"of {', '.join(ROOMS)} (all)")
    parser.add_argument("--sample", type=int, help="so many mutants, of all rooms together (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="these mutants alone")
    given = parser.parse_args()
    os.chdir(ROOT)
    for name in PRELOADED.split():
        import_module(name)
    page = ROOT / "docs/testing.md"
    equivalent = set(re.findall(r"^\| `([0-9a-f]{8})`", page.read_text(), re.MULTILINE)) if page.exists() else set()
    with tempfile.TemporaryDirectory() as folder:
        src = Path(folder) / "src"
        shutil.copytree(ROOT / "src", src, ignore=shutil.ignore_patterns("__pycache__"))
        found, covered, seconds = [], {}, {}
        for room in given.rooms or ROOMS:
            sources, tests = ROOMS[room]
            if forked(src, tests, Watch(src), 1800, Path(folder) / "watched"):
                sys.exit(f"{room}: its tests fail as they are")
            watched = json.loads((Path(folder) / "watched").read_text())
            covered[room] = {file: {tuple(x) for x in lines} for file, lines in watched["lines"].items()}
            seconds |= watched["seconds"]
            found += [m for path in sorted((ROOT / "src/cryoformer").glob(sources)) for m in mutants(room, path)]

        def files(m: Mutant) -> list[str]:
            """Test files that execute it; what runs at import (file ""), all."""
            at = {(str(m.file), line) for line in m.lines}
            return [
                file for file, lines in covered[m.room].items() if file and (at & lines or at & covered[m.room][""])
            ]

        reached = [m for m in found if files(m) and m.id not in equivalent]
        print(f"{len(found)} mutants, {len(reached)} on lines that the tests of their room execute and not equivalent")
        reached.sort(key=lambda m: hashlib.sha256(f"{given.seed} {m.key}".encode()).digest())
        chosen = [m for m in reached if m.id in given.only] if given.only else reached[: given.sample]
        killed: Counter[str] = Counter()
        for number, m in enumerate(sorted(chosen, key=lambda m: (list(ROOMS).index(m.room), m.file, m.line))):
            path, source = src / m.file, (ROOT / "src" / m.file).read_bytes()
            path.write_bytes(source[: m.start] + m.new.encode() + source[m.end :])
            os.utime(path, (10**9 + number,) * 2)  # no compiled file of another mutant fits
            usual = sum(seconds[test] for test in seconds if test.split("::")[0] in files(m))
            status = forked(src, files(m), Quickest(seconds), 30 + 5 * usual)
            shutil.copy2(ROOT / "src" / m.file, path)
            killed[m.room] += status != 0
            print("survived" if status == 0 else "timed out" if status is None else "killed  ", m, flush=True)
        every = Counter(m.room for m in chosen)
        for room in every:
            print(f"{room:8}  {killed[room]:4} of {every[room]:4} killed, {killed[room] / every[room]:.0%}")
        print(f"{'all':8}  {killed.total():4} of {len(chosen):4} killed, {killed.total() / max(len(chosen), 1):.0%}")


if __name__ == "__main__":
    main()
