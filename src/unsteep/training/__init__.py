"""Training: one loop for any module and objective, and the folder that a run lives in."""
