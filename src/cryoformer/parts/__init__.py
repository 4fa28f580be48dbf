"""Parts that move: one density each, seen by all images, every image in its own place (docs/theory.md)."""
