"""Closed-form estimates: consensus, probabilistic PCA, occupied and flexible regions, local Wiener filter."""
