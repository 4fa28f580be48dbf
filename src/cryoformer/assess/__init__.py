"""How good is a reconstruction: scores against ground truth, and of several methods side by side."""
