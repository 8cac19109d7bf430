"""`python -m benchmarks.prompts`."""

from benchmarks.prompts.command import main

if __name__ == "__main__":
    raise SystemExit(main())
