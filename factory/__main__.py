"""The command line as `python -m factory`."""

from factory.cli import main

main()
