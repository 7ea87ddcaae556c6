"""The ablation of Ho et al. 2020 on any data."""
