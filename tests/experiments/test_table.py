"""Tables and what they say about who is best."""

import pytest

from cryoformer_experiments.table import best_value, first_method, markdown, rows_of, verdict

from .made import comparison, fit, halves, source


def test_a_row_per_method_and_reference() -> None:
    rows = rows_of(comparison(), "snr0.1")
    assert [row["method"] for row in rows] == ["CryoFormer", "SFBP", "noise-free mean of the true states"]
    ours = rows[0]
    assert (ours["moving AUC"], ours["R2"], ours["moving A"]) == (0.40, 0.9, 8.0)
    assert (ours["s"], ours["images/s"], ours["GiB"]) == (150.0, 80.0, 1.5)
    assert rows[2]["s"] is None


def test_volumes_that_are_slow_count_in_what_a_method_takes() -> None:
    slow, fast = source(0.4, 0.9), source(0.4, 0.9)
    slow["samples"]["seconds_per_volume"] = 2.0
    rows = rows_of(comparison(cryoformer=fast, sfbp=slow), "snr0.1")
    assert rows[0]["s in all"] == 150.0
    assert rows[1]["s in all"] == 149.0 + 30 * 2.0


def test_the_best_method_is_bold_and_references_never_are() -> None:
    lines = markdown(rows_of(comparison(), "snr0.1")).splitlines()
    assert lines[0].startswith("| method | molecule A | moving A | moving AUC | molecule AUC | R2 | s |")
    assert "**0.400**" in lines[2]
    assert "**0.900**" in lines[2]
    assert "**8.00**" in lines[3]  # a tie is shared
    assert "**" not in lines[4]
    assert "| - |" in lines[4]


def test_smaller_is_better_for_resolutions() -> None:
    rows = rows_of(comparison(cryoformer=source(0.4, 0.9, 7.5), sfbp=source(0.4, 0.9, 8.5)), "snr0.1")
    assert best_value(rows, "moving A") == 7.5
    assert best_value(rows, "moving AUC") == 0.4


def test_a_baseline_that_wins_is_named_with_its_figures() -> None:
    result = comparison(cryoformer=source(0.40, 0.9), sfbp=source(0.41, 0.8))
    assert verdict(rows_of(result, "snr0.1"), "CryoFormer") == (
        "Better than CryoFormer: SFBP (moving AUC 0.410 against 0.400, molecule AUC 0.410 against 0.400; 149 s against "
        "150 s)."
    )


@pytest.mark.parametrize("auc", [0.35, 0.40004])
def test_worse_or_equal_as_printed_is_no_win(auc: float) -> None:
    result = comparison(cryoformer=source(0.40, 0.9), sfbp=source(auc, 0.1))
    assert verdict(rows_of(result, "snr0.1"), "CryoFormer").startswith("No other method does better than CryoFormer")


def test_several_coordinates_and_classes_have_columns_that_count() -> None:
    """The columns of latents are those that compare gives; none is assumed."""
    result = comparison(cryoformer=source(0.40, 0.5), sfbp=source(0.35, 0.7))
    rows = rows_of(result, "snr0.1")
    for row, accuracy in zip(rows, (0.6, 0.9, None), strict=True):
        row["class accuracy"] = accuracy
    assert "class accuracy 0.900 against 0.600" in verdict(rows, "CryoFormer")
    assert "R2 0.700 against 0.500" in verdict(rows, "CryoFormer")


def test_a_method_that_failed_has_a_row_without_scores() -> None:
    result = comparison(cryoformer=source(0.40, 0.9))
    stack = result["stacks"]["snr0.1"]
    stack["fits"]["sfbp"] = fit(failed="it broke")
    rows = rows_of(result, "snr0.1")
    assert rows[1]["method"] == "SFBP (failed)"
    assert rows[1]["moving AUC"] is None
    assert "| - |" in markdown(rows).splitlines()[3]
    assert first_method(result, "snr0.1") == "CryoFormer"


def test_seconds_of_two_halves_are_added() -> None:
    (row,) = rows_of(halves(), "snr0.1")
    assert (row["half maps A"], row["truth A"], row["s"]) == (8.0, 8.1, 21.0)


def test_a_score_that_one_method_alone_has_is_not_compared() -> None:
    rows = rows_of(comparison(cryoformer=source(0.40, 0.9), sfbp=source(0.35, None)), "snr0.1")
    assert "R2" not in verdict(rows, "CryoFormer")
    assert "**0.900**" not in markdown(rows)
