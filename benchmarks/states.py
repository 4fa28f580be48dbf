"""States of a run against the truth: `cryoformer state` beside the run's decoder and the map of all particles.

    python benchmarks/states.py RUN TRUTH [--states 0 3 6 9] [--out benchmarks/results/states_spike64.json]

For each true state, the place is the mean latent of the particles that show it (the truth says which; `state` is told
the place alone). Scores are areas under the FSC curve against the true state, over the molecule and in the moving
region, of the state at every width, at the chosen one, of the decoder, and of all particles.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoformer.assess.ground_truth import GroundTruth, load_truth
from cryoformer.assess.masks import molecule_mask, moving_mask
from cryoformer.decode.volume_source import class_means
from cryoformer.imaging.fsc import fourier_shell_correlation, fsc_auc, resolution
from cryoformer.linear.local_filter import local_wiener
from cryoformer.run.images import images_of_run
from cryoformer.run.run_folder import Run, open_run
from cryoformer.states.half_maps import weighted_halves
from cryoformer.states.place import at_latent
from cryoformer.states.state import make_state


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--states", type=int, nargs="+", default=[0, 3, 6, 9])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/states_spike64.json"))
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    truth = load_truth(arguments.truth, run.box, run.pixel_size_angstrom, len(run.latents))
    masks = {"molecule": molecule_mask(truth.states(), run.pixel_size_angstrom)}
    moving = moving_mask(truth.states(), run.pixel_size_angstrom)
    assert moving is not None
    masks["moving"] = moving
    started, rows = time.perf_counter(), []
    for number in arguments.states:
        rows.append(one_state(run, truth, masks, number))
        print(json.dumps(rows[-1]), flush=True)
    names = [name for name in rows[0] if isinstance(rows[0][name], dict)]
    means = {
        name: {key: round(float(np.mean([row[name][key] for row in rows])), 4) for key in rows[0][name]}
        for name in names
        if all(name in row for row in rows)
    }
    result = {
        "particles": len(run.latents),
        "box": run.box,
        "decoder": "network" if run.parts is None else f"{len(run.parts)} parts",
        "seconds": round(time.perf_counter() - started),
        "mean": means,
        "states": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(means, indent=1))


def one_state(run: Run, truth: GroundTruth, masks: dict[str, np.ndarray], number: int) -> dict[str, Any]:
    """Scores of everything that can stand for one true state."""
    point = class_means(run.latents, truth.state_of_image, list(range(len(truth))))[number]
    true, pixel, window = truth.state(number), run.pixel_size_angstrom, run.model.window.numpy()

    def scores(volume: np.ndarray) -> dict[str, float]:
        found = {name: round(float(fsc_auc(volume * mask, true * mask)), 4) for name, mask in masks.items()}
        curve = fourier_shell_correlation(volume * masks["moving"], true * masks["moving"])
        return found | {"moving_angstrom": round(resolution(curve, run.box, pixel), 2)}

    with images_of_run(run) as (images, *_):
        state = make_state(run, at_latent(run, point.astype(np.float32)), images)
        everything = torch.from_numpy(state.maps.everything)
        row: dict[str, Any] = {
            "state": number,
            "effective_particles": round(state.width.effective),
            "resolution_by_half_maps": {name: round(value, 2) for name, value in state.resolutions.items()},
            "state_map": scores(state.filtered),
            "decoded": scores(next(iter(run.latent_volumes(point[None].astype(np.float32))))),
            "all_particles": scores(local_wiener(everything[0], everything[1], pixel).numpy()),
        }
        for place, width in enumerate(state.candidates[:-1]):
            halves = window * weighted_halves(images, width.weights) + (1 - window) * state.maps.everything
            one, two = torch.from_numpy(halves.astype(np.float32))
            agreement = round(float(state.maps.agreement[place].mean()), 4)
            row[f"width_{place}"] = scores(local_wiener(one, two, pixel).numpy()) | {
                "effective_particles": round(width.effective),
                "agreement": agreement,
            }
    return row


if __name__ == "__main__":
    main()
