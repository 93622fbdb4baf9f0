"""One file per verb, and one function per file."""
