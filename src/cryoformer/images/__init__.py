"""What an image goes through between disk and loss: normalisation, Fourier half-planes, memory or stream."""
