"""A run from particles to a folder, and a finished run opened again."""
