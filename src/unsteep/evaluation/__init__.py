"""How good a model or its samples are, in numbers with their protocol and their error."""
