"""How good is a reconstruction: masks, Fourier shell correlation, resolution, heterogeneity, evaluation."""
