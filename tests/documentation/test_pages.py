"""The documentation keeps up with the code: pages made from it are current, and every link leads somewhere."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture
def tooling(monkeypatch: pytest.MonkeyPatch):
    """The modules of docs/tooling, which is no package."""
    monkeypatch.syspath_prepend(str(ROOT / "docs/tooling"))
    yield importlib.import_module
    for name in ("code_map", "generate"):
        sys.modules.pop(name, None)


def anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_pages_from_code_are_current(tooling) -> None:
    for name, make in tooling("generate").PAGES.items():
        assert (ROOT / "docs" / name).read_text() == make(), f"{name}: run python docs/tooling/generate.py"


def test_the_map_names_every_file_and_no_other(tooling) -> None:
    """By an own way of listing them, so that the map's cannot leave one out."""
    text = (ROOT / "docs/code_map.md").read_text()
    named, folder = set(), ""
    for line in text.splitlines():
        if line.startswith("## src") or line.startswith("## viewer"):
            folder = line.removeprefix("## ")
        elif folder and (row := re.match(r"\| `([^`]+)` \| .+ \|", line)):
            named.add(f"{folder}/{row[1]}")
    there = {
        path.relative_to(ROOT).as_posix()
        for top in ("src", "viewer/src")
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.name != "__init__.py" and path.suffix != ".pyc" and "egg-info" not in str(path)
    }
    assert named == there


def test_a_file_that_says_nothing_is_refused(tooling, tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="says nothing of itself"):
        tooling("code_map").first_line(tmp_path / "silent.py")


def commands_of(page: Path) -> list[str]:
    """Every line of a code block, or code within the text, that is a command."""
    text = page.read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.S)
    blocks += re.findall(r"(?:^ {4}.*\n)+", text, flags=re.M)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [found.replace("\n", " ") for found in re.findall(r"`(cryoformer [^`]*)`", text)]
    found = (re.search(r"(?:^|/bin/|\| )cryoformer ([a-z].*)", line.strip()) for line in lines)
    return [match[1].split("#")[0] for match in found if match]


def test_commands_on_the_pages_exist_with_their_options() -> None:
    """By the page of all options, which is made from the code."""
    known: dict[str, set[str]] = {}
    for section in (ROOT / "docs/settings.md").read_text().split("### `cryoformer ")[1:]:
        name = re.split(r"[ `]", section)[0]
        table = section.split("\n## ")[0]
        known[name] = set(re.findall(r"(?:--[a-z-]+|-o\b)", " ".join(re.findall(r"^\| `(-.*?)` \|", table, re.M))))
    assert known["train"] >= {"-o", "--out", "--resume", "--zdim"}
    pages = [page for page in PAGES if page.name not in ("CHANGELOG.md", "settings.md")]
    wrong, count = [], 0
    for page in pages:
        for command in commands_of(page):
            name, options = command.split()[0], re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-o\b)", command)
            count += 1
            if name not in known or set(options) - known[name] - {"--help"}:
                wrong.append(f"{page.name}: cryoformer {command}")
    assert not wrong, "\n".join(wrong)
    assert count > 60
