"""A cycle's decisions with training and evaluation faked; a process killed anywhere is made good by the next."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from router.canary import Counts, save_counts
from router.errors import RegistryError, TrainingError
from router.log.groups import Span
from router.log.parts import Position
from router.policy_history import Action
from router.registry import Canary, Policy, PolicyRegistry
from tests.support.crash import crash_at_every_step
from training.cycle import ACTOR, CycleRunner, Judgement, NewGroups, NotDue, Ports, Trained
from training.gate import Verdict
from training.ledger import LEDGER_FILE, Consumed, Cycle, Exit, Ledger
from training.trial import OnTrial, Trial

BETTER = Judgement(Verdict.PROMOTE, "better: 10 wins to 0", 10, 0, 60, 0.001, 0.12)
EQUAL = Judgement(Verdict.HOLD, "not shown to be better", 1, 1, 60, 0.75, 0.12)
NEW, ANSWERS = 3, 20


@dataclass
class Home:
    """A state directory, and a trainer and a judge of which a test decides what they find."""

    folder: Path
    judgement: Judgement = EQUAL
    training_fault: Exception | None = None
    gateway_down: bool = False
    shares: tuple[float, ...] = ()
    bytes_repeat: bool = False  # what is read anew drops out: every run makes the same adapter
    logged: int = 9  # positions
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def registry(self) -> PolicyRegistry:
        return PolicyRegistry(self.folder)

    @property
    def ledger(self) -> Ledger:
        (self.folder / "training").mkdir(parents=True, exist_ok=True)
        return Ledger(self.folder / "training")

    def runner(self, due: int = NEW) -> CycleRunner:
        ports = Ports(self._new_groups, self._train, self._evaluate)
        return CycleRunner(self.registry, self.ledger, ports, due, self.trial, clock=lambda: 5.0)

    @property
    def trial(self) -> Trial:
        return Trial(self.shares, ANSWERS, self.folder)

    def answered(self, canary: int) -> None:
        """The gateways have judged so many answers of the canary."""
        save_counts(self.folder, self.registry.champion().epoch, "w0", Counts(canary=canary))

    def run(self) -> Cycle:
        ended = self.runner().run()
        assert isinstance(ended, Cycle)
        return ended

    def until_nothing_is_due(self) -> None:
        while not isinstance(self.runner().run(), NotDue):
            pass

    def _new_groups(self, consumed: Consumed) -> NewGroups:
        newest = Position("w0", self.logged - 1)
        return NewGroups(0 if consumed.covers(newest, (9.0, "g9")) else NEW, {"no_consent": 2})

    def _train(self, cycle: str) -> Trained:
        if self.training_fault is not None:
            raise self.training_fault
        adapter = self.folder / "adapter"
        adapter.mkdir(exist_ok=True)
        (adapter / "adapter.safetensors").write_text("weights" if self.bytes_repeat else f"weights of {cycle}")
        made = manifest(cycle, self.registry.champion().policy, self.logged)
        name = self.registry.register(adapter, made, ACTOR)
        return Trained(name, NEW, {"no_consent": 2}, [Span("w0", 0, self.logged)])

    def _evaluate(self, candidate: Policy, parent: str | None) -> Judgement:
        self.asked.append((candidate.name, parent))
        if self.gateway_down:
            raise TrainingError("no gateway answers")
        return self.judgement


def manifest(cycle: str | None, parent: str | None, logged: int = 9) -> dict[str, object]:
    data = {
        "groups": NEW,
        "dropped_groups": {"no_consent": 2},
        "last_group": "g9",
        "to": 9.0,
        "positions": [["w0", 0, logged]],
    }
    return {"cycle": cycle, "parent": parent, "base_model": "base", "data": data}


def another(home: Home, weights: str = "of another") -> str:
    """A policy that no cycle made."""
    folder = home.folder / "another"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter.safetensors").write_text(weights)
    return home.registry.register(folder, manifest(None, None), "a person")


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


def test_with_too_few_new_groups_nothing_is_written(home: Home) -> None:
    home.run()
    before = files(home.folder)
    ended = home.runner().run()
    assert ended == NotDue(NewGroups(0, {"no_consent": 2}), NEW)
    assert files(home.folder) == before
    assert len(home.asked) == 1


def test_as_many_as_are_needed_are_enough(home: Home) -> None:
    assert isinstance(home.runner(due=NEW + 1).run(), NotDue)
    assert isinstance(home.runner(due=NEW).run(), Cycle)


def test_a_better_candidate_is_promoted_for_the_gates_reason(home: Home) -> None:
    home.judgement = BETTER
    ended = home.run()
    assert home.registry.champion().policy == ended.policy
    flip = home.registry.history()[-1]
    assert (flip.action, flip.actor, flip.reason) == (Action.PROMOTE, "train", BETTER.why)
    assert home.asked == [(ended.policy, None)]
    assert home.ledger.cycles() == [ended]
    assert (ended.exit, ended.verdict, ended.why, ended.ts) == (Exit.PROMOTED, Verdict.PROMOTE, BETTER.why, 5.0)
    assert (ended.n01, ended.n10, ended.pairs, ended.p, ended.mde) == (10, 0, 60, 0.001, 0.12)
    assert (ended.parent, ended.groups, ended.drops) == (None, NEW, {"no_consent": 2})
    assert ended.seconds.keys() == {"train", "evaluate"}
    assert home.ledger.unfinished() is None


@pytest.mark.parametrize("verdict", [Verdict.HOLD, Verdict.INCONCLUSIVE])
def test_any_other_candidate_is_held(home: Home, verdict: Verdict) -> None:
    home.judgement = Judgement(verdict, "no", 0, 0, 4, 1.0, None)
    ended = home.run()
    assert (ended.exit, ended.verdict, ended.why) == (Exit.HELD, verdict, "no")
    assert home.registry.champion().epoch == 0
    assert isinstance(home.runner().run(), NotDue)


def test_a_candidate_that_could_not_be_judged_is_judged_by_the_next_run_and_not_trained_again(home: Home) -> None:
    home.gateway_down, home.judgement = True, BETTER
    with pytest.raises(TrainingError, match=r"no gateway answers; policy-1-\w+ stays pending") as found:
        home.run()
    assert "\n" not in str(found.value)
    assert home.ledger.cycles() == [] and home.registry.champion().policy is None
    home.gateway_down = False
    ended = home.run()
    assert (ended.exit, len(home.registry.policies())) == (Exit.PROMOTED, 1)


def test_a_candidate_of_a_champion_that_no_longer_serves_is_dropped(home: Home) -> None:
    home.gateway_down, home.judgement = True, BETTER
    with pytest.raises(TrainingError):
        home.run()
    home.gateway_down, now = False, another(home)
    home.registry.promote(now, "by hand", "a person")
    ended = home.run()
    assert (ended.exit, ended.verdict) == (Exit.DROPPED, None)
    assert ended.why == f"the champion changed from the base model to {now} since {ended.policy} was trained"
    assert home.registry.champion().policy == now
    assert len(home.asked) == 1
    assert home.ledger.cycles() == [ended]


def test_a_champion_that_changes_while_the_candidate_is_judged_stays(home: Home) -> None:
    now = another(home)
    home.judgement = BETTER
    runner = home.runner()

    def evaluate(candidate: Policy, parent: str | None) -> Judgement:
        home.registry.promote(now, "by hand", "a person")
        return BETTER

    ports = Ports(runner.ports.new_groups, runner.ports.train, evaluate)
    ended = CycleRunner(home.registry, home.ledger, ports, NEW, home.trial).run()
    assert isinstance(ended, Cycle)
    assert (ended.exit, ended.verdict, home.registry.champion().policy) == (Exit.DROPPED, Verdict.PROMOTE, now)


def test_a_promotion_that_was_rolled_back_before_the_line_was_written_is_not_made_again(home: Home) -> None:
    home.judgement = BETTER
    promoted = home.run()
    home.registry.rollback("it does harm", "a person")
    (home.folder / "training" / LEDGER_FILE).unlink()
    home.ledger.begin(promoted)
    ended = home.run()
    assert (ended.exit, home.registry.champion().policy) == (Exit.PROMOTED, None)


@pytest.mark.parametrize("fault", [TrainingError("the loss is not finite"), RegistryError("no"), OSError(28, "full")])
def test_a_training_that_fails_is_a_line_and_is_due_again(home: Home, fault: Exception) -> None:
    home.training_fault = fault
    with pytest.raises(TrainingError, match=r"training failed: .*serving is as it was"):
        home.run()
    [failed] = home.ledger.cycles()
    assert (failed.exit, failed.why, failed.policy, failed.last_group) == (Exit.FAILED, str(fault), None, None)
    assert home.registry.policies() == () and home.ledger.unfinished() is None
    home.training_fault = None
    assert home.run().exit is Exit.HELD
    assert len(home.ledger.cycles()) == 2


def test_the_next_cycle_goes_on_from_the_policy_that_was_promoted(home: Home) -> None:
    home.judgement = BETTER
    first = home.run()
    runner = home.runner()
    ports = Ports(lambda last: NewGroups(NEW, {}), runner.ports.train, runner.ports.evaluate)
    second = CycleRunner(home.registry, home.ledger, ports, NEW, home.trial).run()
    assert isinstance(second, Cycle)
    assert second.parent == first.policy != second.policy == home.registry.champion().policy
    assert home.asked == [(first.policy, None), (second.policy, first.policy)]


def test_a_candidate_on_trial_serves_growing_shares_and_is_promoted_once_each_had_its_answers(home: Home) -> None:
    home.judgement, home.shares = BETTER, (0.05, 0.25)
    begun = home.runner().run()
    assert isinstance(begun, OnTrial)
    policy = begun.policy
    assert (begun.share, begun.judged, begun.needed) == (0.05, 0, ANSWERS)
    assert home.registry.champion().canary == Canary(policy, 0.05) and home.registry.champion().policy is None
    home.answered(ANSWERS - 1)
    assert home.runner().run() == OnTrial(policy, 0.05, ANSWERS - 1, ANSWERS)
    home.answered(ANSWERS)
    assert home.runner().run() == OnTrial(policy, 0.25, 0, ANSWERS)
    assert home.runner().run() == OnTrial(policy, 0.25, 0, ANSWERS)  # the next share counts anew
    home.answered(ANSWERS)
    ended = home.run()
    assert (ended.exit, home.registry.champion().policy, home.registry.champion().canary) == (
        Exit.PROMOTED, policy, None,
    )  # fmt: skip
    changes = [(entry.action, entry.share) for entry in home.registry.history() if entry.epoch]
    assert changes == [(Action.CANARY, 0.05), (Action.CANARY, 0.25), (Action.PROMOTE, None)]
    assert len(home.asked) == 1


@pytest.mark.parametrize("rolled_back", [False, True])
def test_a_policy_that_was_judged_is_not_judged_again_and_what_was_read_is_consumed(
    home: Home, rolled_back: bool
) -> None:
    home.bytes_repeat, home.judgement = True, BETTER if rolled_back else EQUAL
    first = home.run()
    if rolled_back:
        home.registry.rollback("it does harm", "a person")
    home.logged = 20
    again = home.run()
    assert (again.exit, again.policy, again.verdict, again.parent) == (Exit.HELD, first.policy, None, None)
    assert again.why == f"the new groups changed nothing: {first.policy} again, which was judged: {first.why}"
    assert len(home.asked) == 1 and home.registry.champion().policy is None
    assert home.ledger.consumed() == Consumed({"w0": [(0, 20)]})
    assert isinstance(home.runner().run(), NotDue)


def test_a_policy_that_could_not_be_judged_is_judged_when_it_comes_again(home: Home) -> None:
    home.bytes_repeat, home.judgement = True, Judgement(Verdict.INCONCLUSIVE, "errors", 0, 0, 4, 1.0, None)
    home.run()
    home.logged, home.judgement = 20, BETTER
    assert home.run().exit is Exit.PROMOTED and len(home.asked) == 2


def test_a_process_killed_with_a_policy_that_was_judged_does_not_judge_it_again(home: Home) -> None:
    first = home.run()
    home.ledger.begin(Cycle("killed", 0, policy=first.policy))
    ended = home.run()
    assert (ended.id, ended.exit, len(home.asked)) == ("killed", Exit.HELD, 1)


def test_a_canary_that_was_withdrawn_is_not_tried_again(home: Home) -> None:
    home.judgement, home.shares = BETTER, (0.05,)
    assert isinstance(home.runner().run(), OnTrial)
    home.registry.rollback("it did harm", "gateway")
    ended = home.run()
    assert (ended.exit, ended.why, ended.verdict) == (Exit.WITHDRAWN, "it did harm", Verdict.PROMOTE)
    assert isinstance(home.runner().run(), NotDue) and home.registry.champion().policy is None


def test_an_operator_may_promote_what_is_on_trial(home: Home) -> None:
    home.judgement, home.shares = BETTER, (0.05,)
    begun = home.runner().run()
    assert isinstance(begun, OnTrial)
    home.registry.promote(begun.policy, "enough", "a person")
    assert home.run().exit is Exit.PROMOTED
    assert [entry.actor for entry in home.registry.history()][-1] == "a person"


def test_a_candidate_waits_while_another_canary_serves(home: Home) -> None:
    home.judgement, home.shares = BETTER, (0.05,)
    other = another(home)
    home.registry.try_out(other, 0.5, "by hand", "a person")
    with pytest.raises(TrainingError, match=f"{other} is on trial: policy-2-.* waits"):
        home.run()
    home.registry.rollback("", "a person")
    assert isinstance(home.runner().run(), OnTrial)
    assert len(home.asked) == 1


def test_a_process_killed_in_a_trial_goes_on_with_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "state", BETTER, shares=(0.05,))

    def prepare() -> None:
        shutil.rmtree(home.folder, ignore_errors=True)
        assert isinstance(home.runner().run(), OnTrial)
        home.answered(ANSWERS)

    def rest() -> None:
        while not isinstance(home.runner().run(), Cycle):
            pass

    for _ in crash_at_every_step(prepare, rest, least=5):
        if home.ledger.unfinished() is not None:
            rest()
        [line] = home.ledger.cycles()
        assert line.exit is Exit.PROMOTED and line.policy == home.registry.champion().policy
        changes = [entry.action for entry in home.registry.history() if entry.epoch]
        assert changes == [Action.CANARY, Action.PROMOTE]


@pytest.mark.parametrize(("judgement", "least"), [(BETTER, 55), (EQUAL, 45)])
def test_a_process_killed_before_any_step_leaves_serving_whole_and_the_next_run_ends_the_cycle(
    tmp_path: Path, judgement: Judgement, least: int
) -> None:
    home = Home(tmp_path / "state", judgement)
    died_with: set[tuple[bool, bool, bool]] = set()

    def prepare() -> None:
        shutil.rmtree(home.folder, ignore_errors=True)
        home.ledger.cycles()

    for _ in crash_at_every_step(prepare, home.until_nothing_is_due, least=least):
        registered, serving = home.registry.policies(), home.registry.champion().policy
        assert serving is None or [serving] == [policy.name for policy in registered]
        died_with.add((bool(registered), serving is not None, bool(home.ledger.cycles())))
        known = [*home.ledger.cycles(), *filter(None, [home.ledger.unfinished()])]
        assert any(each.policy for each in known) == bool(home.ledger.consumed().spans), "result and positions are one"
        home.until_nothing_is_due()
        [line] = home.ledger.cycles()
        assert home.ledger.consumed() == Consumed({"w0": [(0, 9)]})
        [policy] = home.registry.policies()
        assert line.policy == policy.name
        assert line.exit is (Exit.PROMOTED if judgement is BETTER else Exit.HELD)
        flips = [entry for entry in home.registry.history() if entry.action is not Action.REGISTER]
        assert len(flips) == (judgement is BETTER)
        assert home.registry.champion().policy == (policy.name if judgement is BETTER else None)
        assert home.ledger.unfinished() is None

    stages = {(False, False, False), (True, False, False), (True, judgement is BETTER, True)}
    assert died_with == stages | ({(True, True, False)} if judgement is BETTER else set())


@pytest.mark.parametrize("meanwhile", ["train", "evaluate"])
def test_a_trainer_whose_lock_was_lost_changes_nothing_once_another_has_begun(home: Home, meanwhile: str) -> None:
    home.judgement = BETTER
    runner = home.runner()
    others: list[Cycle] = []

    def overtaken() -> None:
        home.ledger.begin(Cycle("other", home.registry.champion().epoch))
        home.ledger.finish(Cycle("other", 0, exit=Exit.FAILED))
        others.append(home.ledger.cycles()[-1])

    def train(cycle: str) -> Trained:
        if meanwhile == "train":
            overtaken()
        return runner.ports.train(cycle)

    def evaluate(candidate: Policy, parent: str | None) -> Judgement:
        overtaken()
        return runner.ports.evaluate(candidate, parent)

    ports = Ports(runner.ports.new_groups, train, evaluate)
    with pytest.raises(TrainingError, match="another trainer has begun a cycle"):
        CycleRunner(home.registry, home.ledger, ports, NEW, home.trial).run()
    assert home.registry.champion().policy is None
    assert home.ledger.cycles() == others and home.ledger.unfinished() is None


def test_a_fault_that_is_none_of_ours_leaves_the_cycle_to_begin_anew(home: Home) -> None:
    home.training_fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        home.run()
    home.training_fault = None
    assert home.run().exit is Exit.HELD
    assert len(home.ledger.cycles()) == 1
