"""The questions that studies settle: each a function that builds a `Study` of its cells."""
