"""`python -m benchmarks.free`."""

from benchmarks.free.command import main

if __name__ == "__main__":
    raise SystemExit(main())
