"""Poses: found from nothing, posteriors, refinement, and whether they are good enough."""
