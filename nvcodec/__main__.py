"""`python -m nvcodec`."""

from nvcodec.cli import main

main()
