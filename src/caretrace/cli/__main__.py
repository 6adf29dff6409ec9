"""`python -m caretrace.cli`, which is how `torchrun` starts it."""

from caretrace.cli import main

main()
