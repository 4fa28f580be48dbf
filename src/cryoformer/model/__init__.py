"""The network: density at points, given what an image says about its molecule's conformation (paper section 3).

config             ModelConfig: every size and every choice
hash_grid          points -> multi-resolution features; for points that stay put, one sparse matrix (encoding_matrix)
spatial_features   hash grid (or sines) and the tiny MLP -> phi(x), from which F_S(x) is linear
encoders           latent or image -> deformation feature F_D; image -> pose
decoder            structure queries meet F_D, once per image
density_heads      queries meet F_S(x) at every point -> density
spatial_attention  the arithmetic of that meeting; tiled_attention is its fast form on a CPU
cryoformer         CryoFormer: the above, put together
"""
