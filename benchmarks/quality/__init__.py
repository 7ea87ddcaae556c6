"""Quality for equal time beside other libraries: see quality.py."""
