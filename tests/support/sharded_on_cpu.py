"""`thinktwice` under `accelerate launch` with FSDP, for processes on one CPU that talk over gloo.

Accelerate 1.15 shards on accelerators alone: `AcceleratorState.__init__` does not look for FSDP where the distributed
type is MULTI_CPU, and trains data-parallel. So it is told that these are GPUs; all that shards, reduces and gathers is
the libraries' own.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from router.cli import main


def as_if_gpus(*_: Any) -> tuple[str, DistributedType]:
    """The backend that joins the processes, and what accelerate takes them for."""
    return "gloo", DistributedType.MULTI_GPU


if __name__ == "__main__":
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = as_if_gpus
    code = main()
    if code == 0 and not AcceleratorState().is_fsdp2:
        sys.exit("nothing was sharded")
    sys.exit(code)
