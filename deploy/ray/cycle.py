"""One training cycle as a Ray job, for a cluster that has Ray already.

    ray job submit --working-dir deploy/ray -- python cycle.py --config /etc/thinktwice/thinktwice.toml

The arguments go to `thinktwice train --if-due`, which runs as one task on one GPU; its node needs thinktwice with the
extra `train`, and the file system that holds `[state] dir`, `[log] dir` and the model. The job ends as the cycle does;
another trainer at work (75) is no failure. Ray must not try it again by itself: the next job goes on where it ended.
"""

import os
import subprocess
import sys

import ray


def cycle(arguments: list[str]) -> int:
    """Run the cycle here and return its exit code."""
    return subprocess.run(["thinktwice", "train", "--if-due", *arguments], check=False).returncode


def main(arguments: list[str]) -> int:
    """Run the cycle on a node with a GPU."""
    ray.init()
    task = ray.remote(num_gpus=1, max_retries=0)(cycle)
    code: int = ray.get(task.remote(arguments))
    return 0 if code == os.EX_TEMPFAIL else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
