"""`python -m benchmarks.search`."""

from benchmarks.search.command import main

if __name__ == "__main__":
    raise SystemExit(main())
