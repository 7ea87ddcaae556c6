"""How near samples are to data, in numbers that state their protocol and their error."""
