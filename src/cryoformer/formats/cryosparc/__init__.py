"""Files (.cs) of cryoSPARC."""
