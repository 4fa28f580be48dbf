"""What contrasts and latents of real particles go with: defocus, view, neighbours, micrograph.

    python benchmarks/real_particles.py RUN [--out benchmarks/results/real_particles.json] [--figure FIGURE.png]

RUN is a run on a STAR file with micrographs and coordinates, such as the beta-galactosidase set of docs/results. Of the
contrast of every particle, and of the components that a linear subspace finds under a mask whose edge is too sharp for
the images (7 A, as all runs had it once), Spearman's correlation with what the file says of the particle; for the
micrograph, the share of the variance between micrographs. By chance 4,271 particles give 0.03 (two deviations).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from cryoformer.assess.canvas import BLUE, GREY, VERMILION, new_figure, save
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.background import background_mask
from cryoformer.imaging.grids import crop_volume
from cryoformer.linear.occupancy import EDGE_ANGSTROM, occupancy_mask
from cryoformer.linear.ppca import PPCA, fit_ppca
from cryoformer.run.images import images_of_run
from cryoformer.run.run_folder import Run, open_run

AROUND = 60.0
BOX, COMPONENTS, ITERATIONS, TOLERANCE = 32, 6, 40, 0.005


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/real_particles.json"))
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    table = run.table()
    found = {"contrast": run.contrast}
    with images_of_run(run) as (images, file, _):
        raw = file.read().images(np.arange(len(table))).astype(np.float32)
        columns = columns_of(table, images.rotations.double().numpy(), raw)
        sharp = sharply_masked(run, images.with_contrast(1 / torch.from_numpy(run.contrast)).crop(BOX))
    spread = sharp.covariance.diagonal(dim1=1, dim2=2).mean(dim=0)
    fixed = (1 - spread / (spread + sharp.latents.var(dim=0))).tolist()
    found |= {f"sharp mask, component {k + 1}": values.numpy() for k, values in enumerate(sharp.latents.T)}
    rows = {name: correlations(values, columns, table["rlnMicrographName"]) for name, values in found.items()}
    result = {
        "particles": len(table),
        "latent dimensions of the run": int(run.latents.shape[1]),
        "variance of its latents": float(run.latents.var(axis=0).sum()),
        "deviation of the contrast": round(float(run.contrast.std()), 4),
        "sharp mask: share of each component that images fix": [round(value, 3) for value in fixed],
        "sharp mask: log likelihood an image": round(sharp.log_likelihood, 3),
        "correlations": rows,
        "contrast by neighbours": by_count(run.contrast, columns["neighbours"]),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(pd.DataFrame(rows).to_string())
    if arguments.figure:
        draw(rows, result["contrast by neighbours"], arguments.figure)


def columns_of(table: pd.DataFrame, rotations: np.ndarray, raw: np.ndarray) -> dict[str, np.ndarray]:
    """What may explain a difference between particles that is no motion."""
    nearest, count = np.zeros(len(table)), np.zeros(len(table))
    for _, group in table.groupby("rlnMicrographName"):
        places = group[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy(dtype=np.float64)
        tree = cKDTree(places)
        nearest[group.index] = tree.query(places, k=2)[0][:, 1]
        count[group.index] = [len(others) - 1 for others in tree.query_ball_point(places, AROUND)]
    outside = background_mask(raw.shape[-1])
    view = np.abs(rotations[:, 2])
    return {
        "defocus": ((table["rlnDefocusU"] + table["rlnDefocusV"]) / 2).to_numpy(),
        "neighbours": count,
        "nearest neighbour": nearest,
        "view along x": view[:, 0],
        "view along y": view[:, 1],
        "view along z": view[:, 2],
        "shift": np.hypot(table["rlnOriginXAngst"], table["rlnOriginYAngst"]).to_numpy(),
        "background": raw[:, outside].mean(axis=1),
    }


def sharply_masked(run: Run, images: Images) -> PPCA:
    """The linear subspace under a mask of the sharpest edge, without contrasts."""
    mean = crop_volume(torch.from_numpy(run.consensus), BOX)
    mask = occupancy_mask(mean, images.pixel_size_angstrom, EDGE_ANGSTROM)
    return fit_ppca(images, mean, mask, COMPONENTS, ITERATIONS, seed=0, tolerance=TOLERANCE, contrast=False)


def correlations(values: np.ndarray, columns: dict[str, np.ndarray], micrographs: pd.Series) -> dict[str, float]:
    """Spearman's with every column; of the micrograph, eta squared."""
    found = {name: round(float(spearmanr(values, column).statistic), 3) for name, column in columns.items()}
    groups, mean = pd.Series(values).groupby(micrographs.to_numpy()), float(values.mean())
    between = float((groups.size() * (groups.mean() - mean) ** 2).sum())
    return found | {"micrograph (share)": round(between / float(((values - mean) ** 2).sum()), 3)}


def by_count(contrast: np.ndarray, neighbours: np.ndarray) -> list[dict[str, float]]:
    """Mean contrast, with its standard error, by the number of neighbours."""
    rows = []
    for count in range(5):
        some = contrast[neighbours == count]
        error = float(some.std() / np.sqrt(len(some)))
        rows.append({"neighbours": count, "particles": len(some), "mean": float(some.mean()), "error": error})
    return rows


def draw(rows: dict[str, dict[str, float]], counts: list[dict[str, float]], path: Path) -> None:
    """Left: the correlations. Right: contrast by neighbours."""
    figure = new_figure(8.6, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(2.2, 1.0))
    values = np.array([list(row.values()) for row in rows.values()])
    picture = left.imshow(values, cmap="PuOr", vmin=-0.8, vmax=0.8, aspect="auto")
    left.set_xticks(range(values.shape[1]), list(next(iter(rows.values()))), rotation=35, ha="right", fontsize=8)
    left.set_yticks(range(len(rows)), list(rows), fontsize=8)
    for (row, column), value in np.ndenumerate(values):
        if abs(value) >= 0.1:
            left.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7,
                      color="white" if abs(value) > 0.45 else "black")  # fmt: skip
    figure.colorbar(picture, ax=left, label="correlation", fraction=0.04)
    right.errorbar([row["neighbours"] for row in counts], [row["mean"] for row in counts],
                   [2 * row["error"] for row in counts], fmt="o", color=BLUE, ecolor=VERMILION, capsize=3)  # fmt: skip
    right.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    right.set(xlabel="neighbours", ylabel="contrast (mean ± 2 s.e.)", xticks=range(len(counts)))
    right.tick_params(labelsize=8)
    save(figure, path)


if __name__ == "__main__":
    main()
