"""One run for all tests of the viewer, its server as users start it, and a real browser."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cryoformer.explore.view.session import Session
from cryoformer.run.run_folder import open_run
from explore.view.small_run import write_run

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # WebGL by software, and the page put together without it: what a machine without a graphics card does.
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",
    "--disable-accelerated-2d-canvas",
]


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 100 particles. Not to be written to."""
    return write_run(tmp_path_factory.mktemp("viewer"))


@pytest.fixture
def own_run(made_run: Path, tmp_path: Path) -> Path:
    """A copy of the run for one test; the particles stay where they are."""
    return Path(shutil.copytree(made_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def session(made_run: Path) -> Session:
    return Session(open_run(made_run))


@contextmanager
def served(run: Path, *options: str) -> Iterator[str]:
    """The address that ``cryoformer view RUN`` prints, while it runs."""
    command = [sys.executable, "-m", "cryoformer", "view", str(run), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, process.stderr.read() if process.stderr else ""
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def address(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A viewer of a copy of the run, at ``address``; the copy is in the folder of :func:`viewed_run`."""
    copy = shutil.copytree(made_run, tmp_path_factory.mktemp("served") / "run")
    with served(copy) as where:
        SERVED[where] = copy
        yield where


SERVED: dict[str, Path] = {}


@pytest.fixture
def viewed_run(address: str) -> Path:
    """The run that the viewer shows."""
    return SERVED[address]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright (Python package) is not installed")
    found = os.environ.get("CRYOFORMER_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip("no Chromium found: apt-get install chromium, or set CRYOFORMER_CHROMIUM to its path")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=found, args=CHROMIUM_OPTIONS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """``open_page(address, hash="", width=..., height=..., dark=False)``: the page once all is shown.

    At the end nothing may have been complained of: no error on the console or in a script, no failed request, and no
    request to anyone but the viewer.
    """
    troubles: list[str] = []
    contexts = []

    def open_at(
        address: str,
        fragment: str = "",
        width: int = 1280,
        height: int = 800,
        dark: bool = False,
        lost_connections: bool = False,
    ) -> Any:
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        if not lost_connections:
            page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "response", lambda reply: troubles.append(f"{reply.status} {reply.url}") if reply.status > 399 else None
        )
        page.on("request", lambda request: None if _own(request.url, address) else troubles.append(request.url))
        page.goto(address + fragment)
        page.wait_for_selector("body[data-ready]")
        page.wait_for_selector("#surface[data-serial]")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert troubles == []


def _own(url: str, address: str) -> bool:
    return url.startswith(address.split("?")[0]) or url.startswith(("data:", "blob:"))
