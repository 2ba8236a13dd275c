"""``python -m pool`` is ``inferpool``."""

from pool.cli import main

if __name__ == "__main__":
    main()
