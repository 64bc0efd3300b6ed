"""`python -m archroute`, the same as the command `archroute`."""

from archroute.cli import main

main()
