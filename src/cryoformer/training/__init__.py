"""The network learns from images: encoder inputs, schedule, shared states, held-out filter, static density."""
