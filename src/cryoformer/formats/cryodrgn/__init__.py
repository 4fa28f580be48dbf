"""Pickles of cryoDRGN, read without running them."""
