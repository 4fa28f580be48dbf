"""Results of experiments as JSON holds them, with figures made up for the tests of tables and pages."""

from typing import Any

MASKS = {"molecule": {}, "moving": {}}


def source(auc: float, r2: float | None, resolution: float = 8.0) -> dict[str, Any]:
    """Scores of a method: the same area everywhere."""
    sampled = {"fsc": [1.0, 0.9, auc], "resolution_angstrom": resolution, "auc": auc}
    one = {"auc_mean": auc, "resolution_angstrom_mean": resolution}
    return {
        "per_image": {mask: dict(one) for mask in MASKS},
        "per_state": {mask: dict(one) for mask in MASKS},
        "latents": None if r2 is None else {"knn_r2": r2},
        "samples": {"samples": 30, "molecule": dict(sampled), "moving": dict(sampled)},
    }


def fit(**changes: Any) -> dict[str, Any]:
    """What is said of a fit."""
    return {
        "commands": ["cryoformer train"],
        "process_seconds": [9.0],
        "peak_memory_gib": 1.5,
        "failed": None,
    } | changes


def training(seconds: Any, pace: float | None = None) -> dict[str, Any]:
    return {"fit_seconds": seconds, "images_per_second": pace, "found": {}}


def comparison(**sources: dict[str, Any]) -> dict[str, Any]:
    """A result of two methods on one stack, or of those given."""
    sources = sources or {"cryoformer": source(0.40, 0.9), "sfbp": source(0.35, 0.1)}
    stack = {
        "simulation": {"models": ["a.cif", "b.cif"], "images": 500, "snr": 0.1},
        "budget_minutes": 2.5,
        "labels": {"cryoformer": "CryoFormer", "sfbp": "SFBP"},
        "fits": {"cryoformer": fit(), "sfbp": fit()},
        "settings": {
            "box": 4,
            "pixel_size_angstrom": 2.0,
            "masks": MASKS,
            "images": 100,
            "auc_of_a_perfect_map": 0.47,
            "coordinates": 1,
            "compositions": 1,
        },
        "training": {"cryoformer": training(150.0, 80.0), "sfbp": training(149.0)},
        "sources": sources | {"noise_free_mean": source(0.45, None)},
    }
    return _result("comparison", stack)


def halves(too_much: float = 0.0) -> dict[str, Any]:
    """A result of one method on two halves."""
    curves = {name: [1.0, 0.9, 0.3] for name in ("half_maps", "half_maps_unmasked", "truth", "expected")}
    scores = {"half_map_resolution_angstrom": 8.0, "truth_resolution_angstrom": 8.1, "truth_auc": 0.4}
    scores["promised_too_much"] = too_much
    stack = {
        "simulation": None,
        "budget_minutes": None,
        "labels": {"cryoformer": "CryoFormer"},
        "fits": {"cryoformer": fit()},
        "settings": {"box": 4, "pixel_size_angstrom": 2.0, "particles": [250, 250]},
        "training": {"cryoformer": training([10.0, 11.0])},
        "sources": {"cryoformer": {"curves": curves, **scores}},
    }
    return _result("halves", stack)


def _result(kind: str, stack: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": 1,
        "experiment": "made_up",
        "kind": kind,
        "title": "Made up",
        "reproduces": "Fig. 0",
        "departs": "",
        "size": "tiny",
        "seed": 0,
        "command": "cryoformer benchmark made_up --out DIR",
        "minutes": None,
        "threads": 1,
        "machine": {"processor": "Abacus", "cores": 2, "memory_gib": 1.0, "system": "Linux"},
        "versions": {"cryoformer": "0.1.0"},
        "stacks": {"snr0.1": stack},
        "left_out": {"cryodrgn": "no installation was given (--cryodrgn)"},
    }
