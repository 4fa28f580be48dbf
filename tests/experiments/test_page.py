"""Pages and plots come from the JSON alone; those that are committed agree with it."""

import json
from pathlib import Path

import pytest

from cryoformer.errors import InputError
from cryoformer_experiments.page import load_result, page_of, write_page

from .made import comparison, fit, halves, source

REPOSITORY = Path(__file__).resolve().parents[2]
COMMITTED = sorted((REPOSITORY / "benchmarks" / "results" / "experiments").glob("*.json"))
MOST_PLOT_BYTES, MOST_JSON_BYTES = 200_000, 300_000


def test_a_page_has_table_plots_command_and_circumstances(tmp_path: Path) -> None:
    page = write_page(comparison(), tmp_path)
    text = page.read_text()
    assert page == tmp_path / "made_up.md"
    for words in (
        "# Made up",
        "    cryoformer benchmark made_up --out DIR",
        "500 images of 4 x 4 pixels at 2 A, SNR 0.1, simulated from a.cif, b.cif; at most 2.5 minutes",
        "No other method does better than CryoFormer",
        "over 30 samples",
        "100 images (a perfect map: 0.470)",
        "Not fitted: cryodrgn, no installation was given",
        "Abacus, 2 cores",
    ):
        assert words in text
    plots = sorted(path.name for path in tmp_path.glob("*.png"))
    assert plots == ["made_up_fsc.png", "made_up_scores.png"]
    assert all(f"]({name})" in text for name in plots)


def test_three_stacks_of_many_methods_make_small_plots(tmp_path: Path) -> None:
    result = comparison()
    one = result["stacks"]["snr0.1"]
    for number in range(10):
        one["labels"][f"m{number}"] = f"method {number}"
        one["fits"][f"m{number}"], one["training"][f"m{number}"] = fit(), one["training"]["sfbp"]
        one["sources"][f"m{number}"] = source(0.03 * number, 0.1)
    result["stacks"] |= {"b": one, "c": one}
    write_page(result, tmp_path)
    assert max(path.stat().st_size for path in tmp_path.glob("*.png")) < MOST_PLOT_BYTES


def test_half_maps_that_promise_too_much_are_named(tmp_path: Path) -> None:
    assert "The half maps of" not in page_of(halves(0.01))
    text = write_page(halves(0.05), tmp_path).read_text()
    assert "The half maps of CryoFormer promise more than the truth confirms: FSC to the truth lower by 0.050" in text
    assert [path.name for path in tmp_path.glob("*.png")] == ["made_up_fsc.png"]


def test_a_failed_method_is_said_to_have_failed() -> None:
    result = comparison(cryoformer=source(0.40, 0.9))
    result["stacks"]["snr0.1"]["fits"]["sfbp"] = fit(failed="it broke")
    assert "SFBP failed: it broke" in page_of(result)


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("{", "[]", json.dumps({"format": 2})):
        path.write_text(text)
        with pytest.raises(InputError, match="not the result of an experiment"):
            load_result(path)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_pages_are_made_from_committed_figures(path: Path) -> None:
    page = REPOSITORY / "docs" / "results" / f"{path.stem}.md"
    assert page.read_text() == page_of(load_result(path)), f"python -m cryoformer_experiments.page {path} docs/results"
    assert path.stat().st_size < MOST_JSON_BYTES
    for plot in page.parent.glob(f"{path.stem}_*.png"):
        assert plot.stat().st_size < MOST_PLOT_BYTES
