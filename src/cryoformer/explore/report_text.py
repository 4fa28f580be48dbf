"""What a report says in words and numbers: the summary, the warnings, the tables."""

from typing import Any

import numpy as np

from cryoformer.assess.fsc_figure import MASK_TITLES, SOURCE_STYLES
from cryoformer.explore.findings import Findings
from cryoformer.explore.moving_parts import THRESHOLD, consensus_fsc
from cryoformer.imaging.fsc import resolution
from cryoformer.run.outlier_score import DROP_ABOVE
from cryoformer.run.run_folder import Run

LOWEST_CONDITIONING = 0.02
"""Below this ratio (spread of the decoded density over latents / the density's own spread) the decoder as good as
ignores the latents. A domain of 7 % of the mass that swings by its own size gives 0.12 over the whole box, more over
the decoded points alone."""
LOWEST_GAIN = 1.02
LOWEST_R2 = 0.2


def summary(run: Run, evaluation: dict[str, Any] | None) -> str:
    """One or two sentences with the numbers that matter most."""
    particles, dimensions = run.latents.shape
    text = (
        f"{particles:,} particle images ({run.box} × {run.box} pixels of {run.pixel_size_angstrom:.3g} Å) were given "
        f"coordinates in a latent space of {dimensions} dimensions"
    )
    seconds = [entry["elapsed_s"] for entry in run.metrics if isinstance(entry.get("elapsed_s"), int | float)]
    text += f" in {duration(float(max(seconds)))}." if seconds else "."
    halves = consensus_fsc(run)
    if len(halves):
        reached = resolution(halves, run.box, run.pixel_size_angstrom, THRESHOLD)
        text += f" Half-maps of the consensus, at the poses given, agree to {reached:.3g} Å (FSC 0.143, no mask)."
    if evaluation is None:
        return text
    perfect, ours = evaluation["settings"]["auc_of_a_perfect_map"], evaluation["sources"]["cryoformer"]
    for mask, scores in ours["per_image"].items():
        base = evaluation["sources"]["consensus"]["per_image"][mask]["auc_mean"]
        text += (
            f" Over the {MASK_TITLES.get(mask, mask)}, the volumes of single images score an FSC area of "
            f"{scores['auc_mean']:.3f} against the truth (a perfect map {perfect:.3f}, the consensus map {base:.3f})."
        )
    return text + _latents_in_words(ours["latents"])


def _latents_in_words(latents: dict[str, Any]) -> str:
    """What the latents say of the true motion, of each of several motions, and of the true compositions."""
    text = ""
    if "coordinates" in latents:
        each = " and ".join(f"{scores['knn_r2']:.2f}" for scores in latents["coordinates"])
        text += f" The latents predict the true motions with R² = {each}."
    elif latents["knn_r2"] is not None:
        text += f" The latents predict the true motion with R² = {latents['knn_r2']:.2f}."
    if "classes" in latents:
        accuracy = latents["classes"]["knn_balanced_accuracy"]
        text += f" They tell the true compositions with a balanced accuracy of {accuracy:.2f}."
    return text


def motion_summary(found: Findings) -> str:
    """The most flexible region's motion in one sentence; empty where none can be told."""
    if not found.motions or not found.motions[0].whole.is_rigid:
        return ""
    first = found.motions[0]
    return (
        f"The most flexible region moves by {first.whole.distance_angstrom:.1f} ± {first.distance_deviation:.1f} Å and "
        f"turns by {first.whole.rotation_degrees:.0f}°."
    )


def outlier_words(run: Run) -> str:
    """How many particles do not fit, and how to leave them out; empty where a run has no scores."""
    scores = run.outlier_score
    if scores is None:
        return ""
    count = int((scores > DROP_ABOVE).sum())
    who = (
        f"{count:,} particles ({count / len(scores):.1%}) fit worse than they"
        if count > 1
        else "One particle fits worse than it"
    )
    text = (
        f"{who} should by more than {DROP_ABOVE:g} standard deviations: other molecules, empty images, particles off "
        "their centre or at wrong poses, or a state that few particles are in."
    )
    if count == 0:
        return f"No particle fits worse than it should by more than {DROP_ABOVE:g} standard deviations."
    return f"{text} `cryoformer select {run.path.name} --drop-outliers --out kept.star` keeps the others."


def warnings(
    run: Run,
    evaluation: dict[str, Any] | None,
    evaluation_is_older: bool,
    truth: bool = False,
    validated: bool = False,
) -> list[str]:
    """What a reader must know before believing the pictures; ``truth`` and ``validated``: what else there is."""
    found = [*_training_warnings(run), *_latent_warnings(run)]
    if evaluation_is_older:
        found.append("evaluation.json is older than latents.npz: run `cryoformer evaluate` again before quoting it.")
    if evaluation is None and truth:
        found.append("The volumes were not scored against the truth: run `cryoformer evaluate` for that.")
    elif evaluation is None and not validated:
        found.append(
            "There is no comparison with a known truth here, and no independently refined half-sets: nothing on this "
            "page proves that a motion is real. A first principal component exists even for pure noise. Check the end "
            "states against the particles that they come from."
        )
    return found if evaluation is None else found + _evaluation_warnings(evaluation)


def _training_warnings(run: Run) -> list[str]:
    cut_short: list[str] = next((entry["cut_short"] for entry in reversed(run.metrics) if "cut_short" in entry), [])
    found = []
    if cut_short:
        found.append(
            f"The run was cut short by its time limit: {'; '.join(cut_short)}. Everything on this page is preliminary. "
            "Go on with `cryoformer train ... --resume`, and analyze again."
        )
    found += [str(entry["sentence"]) for entry in run.metrics if entry.get("are_off") and "sentence" in entry]
    if any(isinstance(entry.get("loss"), float) and not np.isfinite(entry["loss"]) for entry in run.metrics):
        found.append("The loss was not a number at some step: the run has failed, do not use its volumes.")
    conditioning = [e["conditioning"] for e in run.metrics if isinstance(e.get("conditioning"), int | float)]
    if not conditioning:
        found.append("The run logged no conditioning: whether the decoder uses the latents was not watched.")
    elif conditioning[-1] < LOWEST_CONDITIONING:
        found.append(
            f"The decoder hardly uses the latents: decoded densities differ by {conditioning[-1]:.3f} of their own "
            f"spread (expected {LOWEST_CONDITIONING} or more). The volumes are one average map whatever the latents "
            "say. Either nothing moves that the images show, which `cryoformer validate` tells, or training at low "
            "resolution was too short."
        )
    return found


def _latent_warnings(run: Run) -> list[str]:
    spread = float(np.var(run.latents, axis=0).sum())
    doubt = float(np.trace(np.median(run.latents_covariance, axis=0)))
    if doubt <= spread:
        return []
    return [
        "The latents of single particles are less certain than they differ from one another (variance "
        f"{doubt:.3g} against {spread:.3g}): the landscape shows noise as much as conformations."
    ]


def _evaluation_warnings(evaluation: dict[str, Any]) -> list[str]:
    found = []
    sources = evaluation["sources"]
    mask = list(evaluation["settings"]["masks"])[-1]
    scores = {name: source["per_image"][mask]["auc_mean"] for name, source in sources.items()}
    where = f"over the {MASK_TITLES.get(mask, mask)}"
    if scores["cryoformer"] < LOWEST_GAIN * scores["consensus"]:
        found.append(
            f"The reconstruction is not clearly closer to the truth than the consensus map {where} "
            f"({scores['cryoformer']:.3f} against {scores['consensus']:.3f}): the motion was not resolved."
        )
    for rival in ("subspace", "noise_free_mean"):
        if scores.get(rival, 0.0) > scores["cryoformer"]:
            found.append(
                f"The {SOURCE_STYLES[rival][0]} is closer to the truth {where} ({scores[rival]:.3f}) than the "
                f"reconstruction ({scores['cryoformer']:.3f})."
            )
    latents = sources["cryoformer"]["latents"]
    r2, classes = latents["knn_r2"], latents.get("classes")
    if r2 is not None and r2 < LOWEST_R2:
        worst = "" if "coordinates" not in latents else " of the coordinate found worst"
        found.append(f"The latents hardly predict the true motion{worst} (R² = {r2:.2f}).")
    if classes is not None:
        accuracy, chance = classes["knn_balanced_accuracy"], 1.0 / classes["classes"]
        if accuracy - chance < LOWEST_R2 * (1.0 - chance):
            found.append(
                f"The latents hardly tell the true compositions apart (balanced accuracy {accuracy:.2f}, by chance "
                f"{chance:.2f})."
            )
    return found


def evaluation_table(evaluation: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one source per row, scores per mask, then the latents."""
    masks = list(evaluation["settings"]["masks"])
    header = ["source"]
    for mask in masks:
        title = MASK_TITLES.get(mask, mask)
        header += [f"{title}: AUC per image", f"{title}: AUC per state", f"{title}: resolution per state (Å)"]
    header += ["latents: R² (25 neighbours)", "latents: Spearman (component 1)"]
    # Evaluations written before there were several coordinates and compositions do not say how many.
    several = evaluation["settings"].get("coordinates", 1) > 1
    compositional = evaluation["settings"].get("compositions", 1) > 1
    if several:
        header.append("latents: R² of each coordinate")
    if compositional:
        header += ["latents: accuracy of compositions (25 neighbours)", "latents: adjusted Rand index (k-means)"]
    rows = []
    for name, source in evaluation["sources"].items():
        row = [SOURCE_STYLES[name][0] if name in SOURCE_STYLES else name]
        for mask in masks:
            image, state = source["per_image"][mask], source["per_state"][mask]
            row += [f"{image['auc_mean']:.3f} ± {image['auc_std']:.3f}", f"{state['auc_mean']:.3f}"]
            row.append(f"{state['resolution_angstrom_mean']:.2f}")
        latents = source["latents"]
        row += [_score(latents, key) for key in ("knn_r2", "spearman_first_component")]
        if several:
            row.append(
                "–" if latents is None else ", ".join(f"{each['knn_r2']:.2f}" for each in latents["coordinates"])
            )
        if compositional:
            classes = None if latents is None else latents["classes"]
            row += [_score(classes, key) for key in ("knn_balanced_accuracy", "kmeans_rand")]
        rows.append(row)
    return header, rows


def _score(scores: dict[str, Any] | None, key: str) -> str:
    return "–" if scores is None or scores[key] is None else f"{scores[key]:.2f}"


def rows_of(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings, or results of tests, one dotted name per row; long lists are counted."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += rows_of(value, f"{prefix}{key}.")
        elif isinstance(value, list) and len(value) > 8:
            rows.append((f"{prefix}{key}", f"{len(value)} values"))
        else:
            rows.append((f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows


def repeat_command(run: Run) -> str:
    """The command line kept in the configuration (a string or a list of words), or one made from what is there."""
    command = run.config.get("command")
    if isinstance(command, list | tuple):
        return " ".join(str(word) for word in command)
    if command:
        return str(command)
    return f"cryoformer train {run.config.get('particles', 'PARTICLES')} --out {run.path.name} --recipe config.yaml"


def duration(seconds: float) -> str:
    """In the unit that a reader would use."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def truth_words(found: Findings) -> list[str]:
    """What the comparison with the true states says about flexibility and motion; empty without truth."""
    comparison = found.comparison
    words: list[str] = []
    if comparison is None:
        return words
    if comparison.flexibility_auc is not None:
        scores = comparison.flexibility_auc["flexibility"]
        words.append(
            f"The flexibility map finds the region where the true states differ with ROC AUC {scores['molecule']:.3f} "
            f"within the molecule ({scores['box']:.3f} in the whole box)."
        )
    if comparison.motion is not None and comparison.motion_t is not None:
        low, high = comparison.motion_t
        true = comparison.motion
        words.append(
            f"Measured in the same way, the true states from t = {low:.2f} to {high:.2f} "
            + (
                f"move by {true.distance_angstrom:.1f} Å and turn by {true.rotation_degrees:.0f}°."
                if true.is_rigid
                else f"do not move as one rigid body (which would explain {max(true.explained, 0.0):.0%})."
            )
        )
    return words
