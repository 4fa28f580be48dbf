"""Particle stacks with ground truth, simulated from atomic models: structures -> motion -> densities -> images."""
