"""Not a test: run by the fixture `forked` in a process of its own, which forks the searches of test_ranks.py and of
test_killed.py: importing PyTorch and transformers takes longer than they take.

    python forked_searches.py FOLDER
"""

import json
import sys
from pathlib import Path

import killed_search
import launched_search
import ranked_search


def main(folder):
    found = {
        "ranked": ranked_search.run(folder), "killed": killed_search.run(folder / "killed"),
        "launched": launched_search.run(folder / "launched"),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
