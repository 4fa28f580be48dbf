"""Poses: posteriors, refinement, and whether they are good enough."""
