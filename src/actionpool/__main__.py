"""``python -m actionpool``: the command line."""

from actionpool.cli.app import main

if __name__ == "__main__":
    main()
