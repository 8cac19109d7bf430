"""`python -m benchmarks.corrections`."""

from benchmarks.corrections.command import main

if __name__ == "__main__":
    raise SystemExit(main())
