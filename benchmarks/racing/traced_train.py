"""``cryoformer`` as the user runs it, with one more line on stdout per training step.

    python benchmarks/racing/traced_train.py train PARTICLES.star --out RUN ...

A line is "step box=64 epoch=0 images=320": images trained on in this stage. The last step of an epoch has none, because
the held-out images are looked at before it is reported.
"""

import os
import sys
from collections.abc import Callable
from typing import Any


def main() -> int:
    """Run the command with a training loop that tells its steps."""
    # As the command itself does before it imports torch, which the next import does.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from cryoformer.cli import main as command

    trace_steps()
    return command(sys.argv[1:])


def trace_steps() -> None:
    """From here on, training tells its steps on stdout, beside what it reports anyway."""
    from cryoformer.training.trainer import StageTrainer, StepReport

    train = StageTrainer.run

    def traced(self: StageTrainer, state: Any, report: Callable[[StepReport], None], *rest: Any, **named: Any) -> None:
        def tell(step: StepReport) -> None:
            if step.held_out_gain is None:
                images = step.step * self.batch
                print(f"step box={self.points.box} epoch={step.epoch} images={images}", flush=True)
            report(step)

        train(self, state, tell, *rest, **named)

    StageTrainer.run = traced  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
