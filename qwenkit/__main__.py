"""`python -m qwenkit` is `qwenkit`."""

from qwenkit.cli.app import main

if __name__ == "__main__":
    main()
