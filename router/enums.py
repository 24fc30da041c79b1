"""The closed sets of thinktwice.

Their string values are the contract of DESIGN section 2: they travel unchanged into responses, metric labels and the
group log.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What one check says of one candidate. `ERROR` and `TIMEOUT` are ours: neither a pass nor a fail."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"


class CheckClass(StrEnum):
    """How much a check's pass proves. Only a decisive pass can make an answer `verified`."""

    DECISIVE = "decisive"
    PROCESS = "process"
    SOFT = "soft"
    VETO = "veto"


class Status(StrEnum):
    """What the gateway claims of the answer it returns."""

    VERIFIED = "verified"
    CONSENSUS = "consensus"
    UNVERIFIED = "unverified"
    FAILED = "failed"


class Reason(StrEnum):
    """Why the status is what it is."""

    DECISIVE_PASS = "decisive_pass"
    MAJORITY = "majority"
    NO_ORACLE = "no_oracle"
    TIE = "tie"
    VERIFIER_TIMEOUT = "verifier_timeout"
    VERIFIER_ERROR = "verifier_error"
    ALL_FAILED = "all_failed"
    VETO = "veto"
    TRUNCATED = "truncated"
    BUDGET = "budget"
    DEADLINE = "deadline"


class Route(StrEnum):
    """The way a request took."""

    CACHE = "cache"
    SINGLE = "single"
    VOTE = "vote"


class Stopped(StrEnum):
    """What ended the sampling."""

    SINGLE = "single"
    DECISIVE = "decisive"
    QUORUM = "quorum"
    HOPELESS = "hopeless"
    CAP = "cap"
    DEADLINE = "deadline"
    BUDGET = "budget"
    SHED = "shed"


class OnFailure(StrEnum):
    """What the client wants instead of an answer that did not verify."""

    RETURN = "return"
    REFUSE = "refuse"
    ERROR = "error"


class Effort(StrEnum):
    """OpenAI's `reasoning_effort`, read as an allowance of samples."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"

    @property
    def single_sample(self) -> bool:
        """Whether this effort allows one sample only."""
        return self in (Effort.NONE, Effort.MINIMAL, Effort.LOW)

    @property
    def full_allowance(self) -> bool:
        """Whether this effort votes with all the samples allowed."""
        return self in (Effort.HIGH, Effort.XHIGH)


class Purpose(StrEnum):
    """What the traffic is for; only `PROD`, `AUDIT` and `REPLAY` rows may ever train."""

    PROD = "prod"
    AUDIT = "audit"
    EVAL = "eval"
    REPLAY = "replay"
    SHADOW = "shadow"


class ToolName(StrEnum):
    """The server-side tools: a profile names those that its samples may call."""

    CALCULATOR = "calculator"
    PYTHON = "python"
    SEARCH_NOTES = "search_notes"


class ToolOutcome(StrEnum):
    """What became of one call of a server-side tool. The model reads why in every case."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    NOT_RUN = "not_run"


class TaskKind(StrEnum):
    """The shape of the expected answer, as far as two answers can be compared."""

    NUMBER = "number"
    CHOICE = "choice"
    SHORT = "short"
    JSON = "json"
    CODE = "code"
    OPEN = "open"

    @property
    def comparable(self) -> bool:
        """Whether two answers of this kind can be told equal or different."""
        return self is not TaskKind.OPEN


class Tier(StrEnum):
    """What isolates untrusted code: A, bubblewrap's namespaces around B; B, Landlock. Both with seccomp and limits."""

    BWRAP = "bwrap"
    LANDLOCK = "landlock"


class RunEnd(StrEnum):
    """How a script in a sandbox ended."""

    FINISHED = "finished"
    RAISED = "raised"
    TIMEOUT = "timeout"
    OUTPUT_LIMIT = "output_limit"
    DIED = "died"
