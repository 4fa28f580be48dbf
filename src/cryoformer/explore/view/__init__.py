"""The interactive viewer: a local page that decodes densities as the cursor moves over the landscape.

Browser and server share three ideas: a *state* is a place of the latent space (a point of a map, a place along a
trajectory, or a particle), a *panel* is something on the page that shows states, and of each panel's requests only the
newest is answered.
"""
