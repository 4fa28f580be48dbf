"""From images to conformations: consensus, occupancy, linear subspace, CryoFormer, latents."""
