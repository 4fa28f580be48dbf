"""Other methods behind one interface: fitted on particles with poses they give latents, and volumes at latents."""
