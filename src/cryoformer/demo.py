"""The demo: adenylate kinase opens, is simulated, reconstructed, compared with the truth and reported."""

import sys
from pathlib import Path
from typing import Any

from cryoformer.assess.evaluate import evaluate
from cryoformer.explore.analyze import analyze
from cryoformer.explore.findings import AnalysisOptions
from cryoformer.files import check_empty
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.run.run_folder import open_run
from cryoformer.run.train import train
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer.simulate.stack import simulate
from cryoformer.simulate.structures import adk_models

# Adenylate kinase is small for cryo-EM (24 kDa); it is here because it moves much and its models are free.
IMAGES = 5000
BOX = 64
PIXEL_SIZE_ANGSTROM = 2.2
SNR = 0.1


def run_demo(out: Path, max_minutes: float | None = None) -> Path:
    """Everything into ``out``: ``particles/`` (stack and truth) and ``run/``; returns the report's path.

    The run may take ``max_minutes`` (None: as long as it takes), and says so where that was not enough.

    Raises:
        InputError: the folder holds something already.
    """
    check_empty(out)
    particles = simulate(
        SimulateConfig(
            models=adk_models(),
            out=out / "particles",
            images=IMAGES,
            box=BOX,
            pixel_size_angstrom=PIXEL_SIZE_ANGSTROM,
            snr=SNR,
            seed=1,
        ),
        show_progress=sys.stderr.isatty(),
    )
    print(train(ParticleInput(particles / "particles.star"), out / "run", max_minutes=max_minutes))
    evaluation = evaluate(out / "run", particles)
    report = analyze(open_run(out / "run"), AnalysisOptions(truth=particles))
    print(summary(evaluation))
    return report


def summary(evaluation: dict[str, Any]) -> str:
    """The figures of an evaluation that matter most, as a few lines of text."""
    sources = evaluation["sources"]
    perfect = evaluation["settings"]["auc_of_a_perfect_map"]
    lines = [f"FSC area per image (a perfect map: {perfect:.3f})      whole molecule   moving region"]
    for name in ("consensus", "subspace", "cryoformer"):
        scores = sources[name]["per_image"]
        moving = scores["moving"]["auc_mean"] if "moving" in scores else float("nan")
        lines.append(f"  {name:<45} {scores['molecule']['auc_mean']:>11.3f} {moving:>15.3f}")
    r2 = {name: sources[name]["latents"]["knn_r2"] for name in ("subspace", "cryoformer")}
    lines.append(
        f"true motion predicted by the latents, R2: {r2['cryoformer']:.3f} (linear subspace {r2['subspace']:.3f})"
    )
    return "\n".join(lines)
