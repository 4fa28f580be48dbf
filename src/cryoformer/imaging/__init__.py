"""The microscope: rotations, CTF, projection and Fourier half-plane images. No learning here."""
