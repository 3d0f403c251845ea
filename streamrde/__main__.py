"""`python -m streamrde` is the command `streamrde`."""

from streamrde.cli import main

main()
