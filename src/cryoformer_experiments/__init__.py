"""The paper's experiments as commands: recipes, fits with measured time and memory, scores, tables and plots."""
