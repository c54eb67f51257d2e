"""`python -m crpbot` is `crpbot`."""

from crpbot.cli import main

main()
