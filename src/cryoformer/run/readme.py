"""README.txt of a run: how it stands, and what lies in its folder."""

from collections.abc import Sequence

from cryoformer import __version__

FILES = """
config.yaml          what the run was made of: particle file, command, every setting. It can be given as --recipe
log.txt              everything the run said, with the seconds since it began
latents.npz          mean [n, k] and covariance [n, k, k] of every particle's latent, outlier_score [n] (how badly it
                     fits, in standard deviations), in the order of the particle file
poses.npz            where an orientation encoder read poses: these (rotations and shifts_angstrom)
parts.csv            where there are parts that move: the pose of each in every particle
rows.npy             which rows of the particle file were used, where not all of them were
metrics.jsonl        one line of JSON for each stage and epoch
volumes/             consensus.mrc, its half maps (consensus_half1.mrc, consensus_half2.mrc), occupancy.mrc (where there
                     can be density), flexible.mrc (what the network decodes); of parts that move, where there
                     are any, part_1.mrc with half maps, mask, axis for ChimeraX (part_1_axis.cxc), and still.mrc
checkpoints/         the finished model, and what --resume goes on from (safetensors, no pickles)

What other commands add:

report.html          cryoformer analyze: open it in a browser
analysis/            cryoformer analyze: maps, states, trajectories, ChimeraX scripts
validation.json      cryoformer validate: what the same method finds where nothing moves
free_energy.json     cryoformer free-energy: wells, populations and barriers (.csv, .png); with --plane:
                     free_energy_plane.json
evaluation.json      cryoformer evaluate: scores against a known truth
selections/          cryoformer view: particles picked in the viewer

What next:

cryoformer analyze {run}                    the report
cryoformer view {run}                       look around in a browser
cryoformer validate {run}                   is the motion real?
cryoformer volumes {run} --particles 3,17 --out VOLUMES
cryoformer select {run} --cluster 3 --out state3.star
cryoformer select {run} --drop-outliers --out kept.star
cryoformer state {run} --cluster 3 --out STATE3   its half maps, FSC, sharpened map and weighted particles
cryoformer subtract {run} --part 1 --out PART    particles of a part that moves, the rest taken off
"""


def readme(run: str, state: str, cut_short: Sequence[str] = ()) -> str:
    """The text, for a run that stands as ``state`` says in one sentence."""
    cut = "".join(f"  - {what}\n" for what in cut_short)
    return f"A run of CryoFormer {__version__}.\n\n{state}\n{cut}{FILES.format(run=run)}"
