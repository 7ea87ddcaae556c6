"""Speed beside other libraries: see speed.py."""
