"""The programs: thin, flags in, library calls, exit status."""
