"""Densities at latents, and latents from densities."""
