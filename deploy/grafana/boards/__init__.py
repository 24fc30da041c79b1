"""The dashboards: what each asks, in the order in which an operator asks it."""

from collections.abc import Callable

from deploy.grafana.board import Board
from deploy.grafana.boards.cache import cache
from deploy.grafana.boards.cost import cost
from deploy.grafana.boards.latency import latency
from deploy.grafana.boards.overview import overview
from deploy.grafana.boards.training import training
from deploy.grafana.boards.verification import verification
from deploy.grafana.boards.vllm import vllm

BOARDS: tuple[Callable[[], Board], ...] = (overview, latency, verification, cost, cache, training, vllm)
