"""`unsteep check`: the mathematics on this machine, and a run's files, against closed forms."""
