"""States and their weights: one state at high resolution, and how many particles are where."""
