"""`python -m benchmarks.loading`."""

from benchmarks.loading.command import main

if __name__ == "__main__":
    raise SystemExit(main())
