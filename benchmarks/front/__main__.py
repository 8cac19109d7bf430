"""`python -m benchmarks.front`."""

from benchmarks.front.command import main

if __name__ == "__main__":
    raise SystemExit(main())
