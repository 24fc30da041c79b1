"""Follows the calibration file: the router learns without a restart, and keeps what it knew when a file is no good."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from gateway.cost import price_of
from gateway.policies import ResolvedPolicy
from router.calibration.file import FILE_NAME, load_calibration
from router.calibration.model import Calibration
from router.errors import CalibrationError
from router.route import Learned, Router
from router.settings import PriceSection, RouterSection

_UNPRICED = "until then no price limits a group"

_log = logging.getLogger(__name__)


class Learning:
    """Reads the file when it changes, or when another policy serves."""

    def __init__(self, state_dir: Path, section: RouterSection, prices: dict[str, PriceSection]) -> None:
        self._path = state_dir / FILE_NAME
        self._section, self._prices = section, prices
        self._last: tuple[object, str] | None = None

    def follow(self, router: Router, champion: Callable[[], ResolvedPolicy]) -> Router:
        """The router with the file's calibration, or the same one when there is nothing new or the file is refused.

        A refusal is logged once. Raises what `champion` raises.
        """
        policy, signature = champion(), self._signature()
        if (signature, policy.name) == self._last:
            return router
        first, self._last = self._last is None, (signature, policy.name)
        if signature is None:
            if not first:
                _log.warning("%s is gone: the heuristic decides difficulty again", self._path)
            if self._section.solve_rate_target is not None:
                _log.warning("[router] solve_rate_target has no price yet: run `thinktwice calibrate`, %s", _UNPRICED)
            return router.learning(None)
        try:
            calibration = load_calibration(self._path)
            if calibration.policy != policy.name:
                raise CalibrationError(
                    f"{self._path} is of the policy {calibration.policy}, and {policy.name} serves: "
                    "run `thinktwice calibrate`"
                )
        except (CalibrationError, FileNotFoundError) as error:
            _log.warning("the calibration is refused and the router stays as it was: %s", error)
            return router
        _log.info(
            "difficulty is calibrated on %d prompts, calibration error %.3f",
            calibration.prompts,
            calibration.quality.ece,
        )
        return router.learning(self._learned(calibration, policy))

    def _learned(self, calibration: Calibration, policy: ResolvedPolicy) -> Learned:
        """The calibration with the value of a solved task in the price of a completion token."""
        dollars, price = self._section.usd_per_solve, price_of(self._prices, policy)
        prompt_share = price.input / price.output if price is not None and price.output else 0.0
        if self._section.solve_rate_target is not None:
            return Learned(calibration, self._shadow_price(calibration), prompt_share)
        if dollars is None:
            return Learned(calibration, self._section.tokens_per_solve)
        if price is None or price.output == 0:
            _log.warning("[router] usd_per_solve has no effect: %s has no price of completion tokens", policy.name)
            return Learned(calibration)
        return Learned(calibration, dollars * 1e6 / price.output, prompt_share)

    def _shadow_price(self, calibration: Calibration) -> float | None:
        """The value of a solved task that reaches the configured solve rate, as `calibrate` found it."""
        target, wanted = calibration.target, self._section.solve_rate_target
        if target is None or target.solve_rate != wanted:
            _log.warning(
                "the calibration was not made for solve_rate_target %s: run `thinktwice calibrate`, %s",
                wanted,
                _UNPRICED,
            )
            return None
        if target.value is None:
            _log.warning(
                "full groups are expected to solve %.1f %%, and solve_rate_target is %.1f %%: no price limits a group",
                100 * target.reached,
                100 * target.solve_rate,
            )
        return target.value

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
