"""`python -m unsteep`: the command line."""

from unsteep.cli import main

main()
