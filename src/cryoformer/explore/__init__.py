"""Looking at a finished run: latent landscape, motion, figures, report."""
