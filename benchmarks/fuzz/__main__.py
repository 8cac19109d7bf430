"""`python -m benchmarks.fuzz`."""

from benchmarks.fuzz.command import main

if __name__ == "__main__":
    raise SystemExit(main())
