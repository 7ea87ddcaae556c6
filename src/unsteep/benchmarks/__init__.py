"""How fast this machine is, and how fast it trains and samples: measured, with what it could do at most."""
