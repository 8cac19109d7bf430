"""`python -m benchmarks.language`."""

from benchmarks.language.command import main

if __name__ == "__main__":
    raise SystemExit(main())
