"""The files for `accelerate launch`, as accelerate's own classes read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("accelerate.yaml", DistributedType.MULTI_GPU), ("accelerate-fsdp.yaml", DistributedType.FSDP)],
)
def test_accelerate_reads_a_process_a_gpu_of_one_machine(name: str, kind: DistributedType) -> None:
    config = load_config_from_file(str(DEPLOY / name))
    assert config.distributed_type == kind
    assert (config.num_machines, config.use_cpu, config.mixed_precision) == (1, False, "no")
    # The launcher takes keys over without looking whether it knows them.
    assert set(config.fsdp_config) <= set(vars(launch_command_parser().parse_args(["script"])))


def test_the_base_model_is_sharded_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config_from_file(str(DEPLOY / "accelerate-fsdp.yaml"))
    for key, value in config.fsdp_config.items():
        monkeypatch.setenv("FSDP_" + key.removeprefix("fsdp_").upper(), str(value))
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy
    assert plugin.reshard_after_forward
    assert not plugin.cpu_ram_efficient_loading
    assert plugin.mixed_precision_policy is None
