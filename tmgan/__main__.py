"""`python -m tmgan` is `tmgan`."""

from tmgan.cli import main

if __name__ == "__main__":
    main()
