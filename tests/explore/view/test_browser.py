"""The viewer as people use it, in a real browser."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.formats.load import load_particles
from cryoformer.run.run_folder import open_run
from explore.view.conftest import served

Open = Callable[..., Any]

# What lies around the map's plot (viewer/src/plane.ts).
LEFT, BOTTOM, RIGHT, TOP = 58, 38, 10, 10


def middle_of_map(page: Any) -> tuple[float, float]:
    """Where the centre of the map's window is on the screen."""
    box = page.locator("#map-top").bounding_box()
    return box["x"] + (LEFT + box["width"] - RIGHT) / 2, box["y"] + (TOP + box["height"] - BOTTOM) / 2


def draw(page: Any, places: list[tuple[float, float]], key: str | None = None) -> None:
    """Press, move and release."""
    if key:
        page.keyboard.down(key)
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.mouse.up()
    if key:
        page.keyboard.up(key)


def circle(centre: tuple[float, float], radius: float) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * np.pi, 24)
    return [(centre[0] + radius * np.cos(a), centre[1] + radius * np.sin(a)) for a in angles]


def surface_pixels(page: Any) -> bytes:
    """What the surface looks like once all that was asked for has come and been drawn."""
    page.wait_for_timeout(600)
    return bytes(page.locator("#surface").screenshot())


def fragment(page: Any) -> dict[str, str]:
    """The view as the address holds it (written with a small delay)."""
    page.wait_for_timeout(300)
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).fragment).items()}


def selected(page: Any, count: int) -> None:
    page.wait_for_selector(f"#selected[data-count='{count}']")


def test_the_page_loads_and_shows_a_molecule(open_page: Open, address: str) -> None:
    page = open_page(address)
    assert "token" not in page.url
    assert page.inner_text("#run-facts").startswith("100 particles · 24³ voxels of 4.00 Å")
    assert int(page.get_attribute("#surface", "data-vertices")) > 100
    assert page.get_attribute("#map-base", "data-drawn") == "points"
    empty = open_page(address, "#level=7.9")
    empty.wait_for_timeout(500)
    # A molecule fills some of its panel with more than the background.
    assert len(surface_pixels(page)) > 1.5 * len(surface_pixels(empty))


def test_dragging_over_the_landscape_changes_the_surface(open_page: Open, address: str) -> None:
    page = open_page(address)
    x, y = middle_of_map(page)
    draw(page, [(x - 120, y - 120), (x - 110, y - 115)])
    first, start = surface_pixels(page), page.get_attribute("#surface", "data-vertices")
    serial = int(page.get_attribute("#surface", "data-serial"))
    draw(page, [(x - 120 + 12 * i, y - 120 + 12 * i) for i in range(20)])
    assert surface_pixels(page) != first
    assert page.get_attribute("#surface", "data-vertices") != start
    # Live: surfaces came while the mouse was moving.
    assert int(page.get_attribute("#surface", "data-serial")) > serial + 2
    draw(page, [(x - 120, y - 120), (x - 110, y - 115)])
    assert surface_pixels(page) == first


def test_a_lasso_selects_saves_and_exports_the_right_particles(
    open_page: Open, address: str, viewed_run: Path, made_run: Path
) -> None:
    coordinates = principal_coordinates(open_run(viewed_run).latents).coordinates
    wanted = [37, 62]
    for row, name, saved in ((37, "one", ""), (62, "both", "&saved=one")):
        # Zoomed in with this particle in the middle: around it there is no other.
        where = ",".join(str(value) for value in coordinates[row])
        page = open_page(address, f"#window={where},12{saved}")
        page.keyboard.press("l")
        draw(page, circle(middle_of_map(page), 25))
        selected(page, 2 if saved else 1)
        page.fill("#save-name", name)
        page.click("text=Save selection")
        page.locator("#saved li", has_text=name).wait_for()
    np.testing.assert_array_equal(np.load(viewed_run / "selections" / "both.npy"), wanted)
    page.locator("#saved li", has_text="both").get_by_text("Export").click()
    page.locator("#notice", has_text="Written: ").wait_for()
    exported = load_particles(viewed_run / "selections" / "both.star")
    original = load_particles(made_run.parent / "particles.star")
    np.testing.assert_allclose(exported.rotations, original.rotations[wanted], atol=1e-6)
    np.testing.assert_array_equal(exported.images(np.arange(2)), original.images(np.array(wanted)))


def test_a_large_lasso_holds_what_lies_inside_its_outline(open_page: Open, address: str, viewed_run: Path) -> None:
    page = open_page(address)
    page.click("[data-tool=lasso]")
    x, y = middle_of_map(page)
    draw(page, circle((x + 40, y - 20), 110))
    polygon = [
        tuple(float(v) for v in corner.split(","))
        for corner in unquote(fragment(page)["regions"]).split(":")[2].split(";")
    ]
    coordinates = principal_coordinates(open_run(viewed_run).latents).coordinates
    inside = [crossings(polygon, *place) % 2 == 1 for place in coordinates]
    assert 5 < sum(inside) < 80
    selected(page, sum(inside))


def crossings(polygon: list[tuple[float, ...]], x: float, y: float) -> int:
    """Edges that a ray to the right of the place crosses."""
    count = 0
    for (ax, ay), (bx, by) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
            count += 1
    return count


def test_boxes_add_alt_takes_away_and_undo_goes_back(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.keyboard.press("b")
    x, y = middle_of_map(page)
    box = page.locator("#map-top").bounding_box()
    left, right = box["x"] + LEFT + 3, box["x"] + box["width"] - RIGHT - 3
    top, bottom = box["y"] + TOP + 3, box["y"] + box["height"] - BOTTOM - 3
    draw(page, [(left, top), (x, y), (right, bottom)])
    selected(page, 100)
    draw(page, [(left, top), (x, bottom)], key="Alt")
    selected(page, 50)
    page.keyboard.press("Control+z")
    selected(page, 100)
    page.keyboard.press("Control+z")
    selected(page, 0)
    page.keyboard.press("Control+Shift+z")
    page.keyboard.press("Control+y")
    selected(page, 50)
    page.keyboard.press("Escape")
    selected(page, 0)


def test_the_address_holds_the_view(open_page: Open, address: str) -> None:
    page = open_page(address, "#state=particle:45")
    page.keyboard.press("r")
    page.keyboard.press("p")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("m")
    page.select_option("#colour", "flexibility")
    page.keyboard.press("x")
    before, count = fragment(page), page.get_attribute("#selected", "data-count")
    assert int(count) > 0
    assert before["mode"] == "beside"
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert fragment(page) == before
    assert page.get_attribute("#selected", "data-count") == count
    assert page.is_visible("#tag-a")
    assert page.is_visible("#slice-x")
    assert page.input_value("#colour") == "flexibility"


def test_particles_are_coloured_and_what_is_shown_is_saved(open_page: Open, own_run: Path, tmp_path: Path) -> None:
    labels = (np.arange(100) >= 50).astype(np.int64)
    (own_run / "analysis").mkdir()
    np.savez(own_run / "analysis/latent_space.npz", labels=labels, centres=np.array([10, 80]))
    with served(own_run) as address:
        page = open_page(address)
        page.wait_for_selector("#tint option[value=defocus]", state="attached")
        plain = page.locator("#map-base").screenshot()
        page.select_option("#tint", "state")
        page.wait_for_selector("#tint-legend:not([hidden])")
        assert page.inner_text("#tint-classes").split() == ["1", "2"]
        page.wait_for_timeout(300)
        assert page.locator("#map-base").screenshot() != plain
        assert fragment(page)["tint"] == "state"
        # The numbered states of the report are chosen from a list.
        page.select_option("#state", label="State 2")
        page.wait_for_timeout(300)
        assert fragment(page)["state"] == "particle:80"
        with page.expect_download() as saved:
            page.click("#save-maps")
        assert saved.value.suggested_filename == "run_particle_000080.mrc"
        with page.expect_download() as picture:
            page.click("#picture")
        picture.value.save_as(tmp_path / "shown.png")
        with Image.open(tmp_path / "shown.png") as shown:
            corner = np.asarray(shown.convert("L"))[-40:, -(shown.width // 4) :]
        assert corner.min() < 80  # the scale bar, on a ground that is empty there
        page.click("#around")
        page.click("#particles-open")
        page.wait_for_selector("#directions canvas >> nth=1", timeout=20000)
        page.close()


def test_a_window_finds_a_viewer_that_was_started_again(open_page: Open, own_run: Path) -> None:
    options = ("--token", "a-token-that-nobody-guesses")
    with served(own_run, *options) as address:
        # A connection that breaks is a trouble of its own kind: not counted here.
        page = open_page(address, lost_connections=True)
        port = str(urlsplit(address).port)
    page.locator("#timing", has_text="Connection lost").wait_for()
    serial = int(page.get_attribute("#surface", "data-serial"))
    with served(own_run, *options, "--port", port):
        until = time.monotonic() + 20.0
        while int(page.get_attribute("#surface", "data-serial")) == serial and time.monotonic() < until:
            page.wait_for_timeout(200)
        assert int(page.get_attribute("#surface", "data-serial")) > serial
        page.close()


def test_an_address_that_makes_no_sense_shows_the_start(open_page: Open, address: str) -> None:
    page = open_page(address, "#map=x&state=map:x:1,2&mode=what&level=-&colour=none&regions=+:x:1&pinned=particle:9999")
    assert page.input_value("#map") == "pc12"
    assert int(page.get_attribute("#surface", "data-vertices")) > 100


def test_everything_works_from_the_keyboard(open_page: Open, address: str) -> None:
    page = open_page(address)
    start = fragment(page)["state"] if urlsplit(page.url).fragment else ""
    page.keyboard.press("ArrowUp")
    moved = fragment(page)["state"]
    assert moved.startswith("map:pc12:")
    assert moved != start
    page.keyboard.press("]")
    assert float(fragment(page)["level"]) > 0
    page.keyboard.press(" ")
    page.wait_for_selector("#place:text('component 1')")
    page.keyboard.press(" ")
    assert fragment(page)["state"].startswith("path:component 1:")
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Enter")
    assert not page.is_visible("#help")
    page.focus("#surface")
    turned = fragment(page)["turn"]
    page.keyboard.press("ArrowLeft")
    assert fragment(page)["turn"] != turned
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, select, input')].filter(e => !(e.textContent.trim() || e.title ||"
        " e.labels?.[0]?.textContent.trim())).map(e => e.outerHTML)"
    )
    assert unnamed == []


def test_states_are_compared_and_particles_shown(open_page: Open, address: str) -> None:
    page = open_page(address, "#state=map:pc12:-0.8,-0.8")
    page.click("#pin")
    page.keyboard.press("i")
    x, y = middle_of_map(page)
    draw(page, [(x, y), (x + 100, y - 100)])
    single = surface_pixels(page)
    page.click("[data-mode=difference]")
    page.evaluate(
        "const s = document.querySelector('#change'); s.value = 4; s.dispatchEvent(new Event('input'));"
        "s.dispatchEvent(new Event('change'))"
    )
    assert page.is_visible("#change-legend")
    assert surface_pixels(page) != single
    page.click("#around")
    page.wait_for_selector(".strip canvas")
    assert page.locator(".strip").count() == 3
    assert re.search(r"r = 0\.\d\d", page.inner_text("#particle-pictures"))
    # Both drawers share one place.
    page.click("#slices-open")
    assert page.is_hidden("#particles")
    page.locator("#slice-note", has_text="Difference from A").wait_for()


@pytest.mark.parametrize("width", [360, 700, 1024])
def test_a_narrow_window_needs_no_sideways_scrolling(open_page: Open, address: str, width: int) -> None:
    page = open_page(address, "#drawer=slices&colour=flexibility", width=width, height=760)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("#map-top", "#surface"):
        box = page.locator(name).bounding_box()
        assert box["width"] > 250
        assert box["height"] > 130


# Pans by pointer events, one per frame, and times the frames.
PAN = """async (steps) => {
  const map = document.querySelector('#map-top');
  const box = map.getBoundingClientRect();
  map.setPointerCapture = () => {};
  const send = (type, x, y) => map.dispatchEvent(new PointerEvent(type,
    { pointerId: 1, button: 2, buttons: 2, clientX: box.left + x, clientY: box.top + y, bubbles: true }));
  send('pointerdown', 200, 200);
  const start = performance.now();
  for (let i = 1; i <= steps; i++) {
    send('pointermove', 200 + 90 * Math.sin(i / 9), 200 + 60 * Math.cos(i / 7));
    await new Promise(requestAnimationFrame);
  }
  const seconds = (performance.now() - start) / 1000;
  send('pointerup', 200, 200);
  return steps / seconds;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("zoom", [1, 8])
def test_200_000_points_pan_smoothly(open_page: Open, own_run: Path, zoom: float) -> None:
    """Once as density, once zoomed in to where about the most are drawn one by one."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((200_000, 2)).astype(np.float32)
    np.savez(own_run / "latents.npz", mean=latents, covariance=np.zeros((200_000, 2, 2), np.float32))
    with served(own_run) as address:
        page = open_page(address, f"#window=0.9,0.9,{zoom}" if zoom != 1 else "")
        page.wait_for_timeout(1500)
        rate = page.evaluate(PAN, 120)
        drawn = page.get_attribute("#map-base", "data-drawn")
        page.context.close()
        print(f"200,000 particles, drawn as {drawn}: {rate:.0f} frames/s")
        assert drawn == ("density" if zoom == 1 else "points")
        assert rate > 20


@pytest.mark.slow
def test_the_density_follows_the_cursor(open_page: Open, address: str) -> None:
    page = open_page(address)
    x, y = middle_of_map(page)
    serial, start = int(page.get_attribute("#surface", "data-serial")), time.perf_counter()
    draw(page, [(x + 100 * np.sin(i / 9), y + 80 * np.cos(i / 7)) for i in range(150)])
    rate = (int(page.get_attribute("#surface", "data-serial")) - serial) / (time.perf_counter() - start)
    print(f"{rate:.0f} surfaces/s")
    assert rate > 5


def test_screenshots(open_page: Open, made_run: Path, tmp_path: Path) -> None:
    """Pictures for the documentation (``make screenshots``): of another run where one is given."""
    out = Path(os.environ.get("CRYOFORMER_SCREENSHOTS", tmp_path))
    out.mkdir(parents=True, exist_ok=True)
    with served(Path(os.environ.get("CRYOFORMER_SCREENSHOT_RUN", made_run))) as address:

        def take(name: str, page: Any) -> None:
            page.wait_for_timeout(1500)
            page.evaluate("document.querySelector('#notice').hidden = true")
            page.screenshot(path=out / f"{name}.png")
            page.context.close()

        page = open_page(address, "#colour=flexibility&tint=state", width=1400, height=860)
        paths = page.locator("#path option").evaluate_all("options => options.map(o => o.value)")
        ends = [f"path:{paths[0]}:{place}" for place in (0.05, 0.95)]
        take("viewer", page)
        page = open_page(
            address,
            f"#mode=difference&pinned={ends[0]}&state={ends[1]}&drawer=slices&planes=0.6,0.5,0.8",
            width=1400,
            height=860,
        )
        take("viewer_difference", page)
        page = open_page(address, "#state=particle:45", width=1400, height=860, dark=True)
        page.keyboard.press("r")
        page.keyboard.press("i")
        page.wait_for_selector(".strip canvas")
        take("viewer_particles", page)
        take("viewer_narrow", open_page(address, "#colour=flexibility", width=420, height=900))
    assert len(list(out.glob("viewer*.png"))) == 4
