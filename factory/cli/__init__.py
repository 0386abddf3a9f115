"""The command line: each command parses, calls the library once and prints."""

from factory.cli.app import main as main
