"""What a model can be conditioned on: one file for each kind."""
