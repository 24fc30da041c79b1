"""Every error thinktwice raises, as one tree.

* ThinkTwiceError
  x InvalidRequest             400  the client's request cannot be honoured; `param` names the field
    + UnknownProfile           400
    + ModelNotFound            404
    + PayloadTooLarge          413
    + GroupNotFound            404
    + IdempotencyKeyReused     422  its key came with another request before
    + IdempotencyKeyInUse      409  the first request with its key is still running
  x NotAdmitted                     the caller may not have this now, or not at all
    + InvalidKey               401  no API key, or none that is valid
    + Forbidden                403  the key may not ask for this
    + RateLimited              429  too many requests at once or in a time; `retry_after_s`
    + BudgetExceeded           429  the tenant's budget does not cover the request
    + QuotaUnavailable         503  a budget cannot be checked
    + Overloaded               503  the gateway's queue is full
  x NotAnswered                     the request was sound, no answer may be returned
    + VerificationFailed       422  decisive checks completed and none passed
    + NotVerified              422  nothing could be proved
  x BackendError                    the engine's fault
    + BackendUnavailable       503  no engine answers
    + BackendTimeout           504
    + BackendProtocolError     502  it answered something that is not its protocol
    + BackendRejected          its  it refused; its own status and error object are passed on
  x VerifierUnavailable        503  a required check cannot run
    + SandboxUnavailable       503  one that needs the sandbox
  x LogUnavailable             503  the group log cannot take another group
  x CacheUnavailable                caught in the service: a miss
  x ToolError                       caught in the tool loop: the model is told
  x ConfigError                     exit code 2, one line with the cure
  x RecordError                     a group record or segment that cannot be read or written
    + SegmentCorrupt
  x RegistryError                   the policy registry cannot do what was asked
    + PolicyNotFound           404
    + PolicyConflict           409  another policy serves than was expected, or there is none to go back to
  x CalibrationError                a calibration that cannot be fitted, or not be used
  x TrainingError                   a training run or an evaluation cannot go on

A new error is added here and, if it can reach a client, in `gateway.http.http_errors`; a test walks this tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from router.domain import Verification


class ThinkTwiceError(Exception):
    """Base of all our errors. The message is one line, fit for a user."""


class InvalidRequest(ThinkTwiceError):
    """The request cannot be honoured; `param` is the path of the offending field."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnknownProfile(InvalidRequest):
    """The verification profile is not configured, or not at that version."""


class ModelNotFound(InvalidRequest):
    """The `model` is neither the base model, `champion`, nor a policy."""


class PayloadTooLarge(InvalidRequest):
    """The body is over `[server] max_body_bytes`."""


class GroupNotFound(InvalidRequest):
    """The group log holds no such group."""


class NotAdmitted(ThinkTwiceError):
    """The caller may not have this now; `retry_after_s` says when, `headers` what else it is told."""

    def __init__(
        self, message: str, retry_after_s: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.headers = headers or {}


class InvalidKey(NotAdmitted):
    """The request carries no API key, or one that is unknown, expired or revoked."""


class Forbidden(NotAdmitted):
    """The key is valid and may not ask for this."""


class RateLimited(NotAdmitted):
    """The tenant has sent too many requests, at once or in a time."""


class BudgetExceeded(NotAdmitted):
    """What is left of the tenant's budget does not cover the request."""


class QuotaUnavailable(NotAdmitted):
    """The tenant's budget cannot be checked, so nothing may be spent."""


class Overloaded(NotAdmitted):
    """The gateway serves as many requests as it may, and as many wait."""


class IdempotencyKeyReused(InvalidRequest):
    """The `Idempotency-Key` came with another request before."""


class IdempotencyKeyInUse(InvalidRequest):
    """The first request with this `Idempotency-Key` is still running."""


class NotAnswered(ThinkTwiceError):
    """No answer may be returned; `verification` is the response extension that says why."""

    def __init__(self, message: str, verification: Verification) -> None:
        super().__init__(message)
        self.verification = verification


class VerificationFailed(NotAnswered):
    """Decisive checks completed on every sample and none passed."""


class NotVerified(NotAnswered):
    """No decisive pass, and not every sample was proved wrong either."""


class BackendError(ThinkTwiceError):
    """The engine did not serve the request."""

    @property
    def engine_failed(self) -> bool:
        """Whether the engine failed by itself: not by refusing the request, and not by the request's deadline."""
        return True


class BackendUnavailable(BackendError):
    """No engine accepts connections."""


class BackendTimeout(BackendError):
    """The engine did not answer before the request's deadline."""

    @property
    def engine_failed(self) -> bool:
        """False: the deadline is the client's."""
        return False


class BackendProtocolError(BackendError):
    """The engine's answer is not the protocol it should speak."""


class BackendRejected(BackendError):
    """The engine refused the request; `status`, `body` and `retry_after` (its header, as it came) are its own."""

    def __init__(self, message: str, status: int, body: Mapping[str, Any], retry_after: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        self.retry_after = retry_after

    @property
    def engine_failed(self) -> bool:
        """Whether it was refused with a server's error (5xx)."""
        return self.status >= 500


class VerifierUnavailable(ThinkTwiceError):
    """A required check cannot run now, so no sample is drawn."""


class SandboxUnavailable(VerifierUnavailable):
    """No sandbox can be started here, or none is free."""


class LogUnavailable(ThinkTwiceError):
    """The group log is full or cannot be written: an answer that cannot be logged is not given."""


class CacheUnavailable(ThinkTwiceError):
    """The answer cache did not serve; treated as a miss."""


class ToolError(ThinkTwiceError):
    """A server-side tool cannot answer this call; the message tells the model why, so that it can do better."""


class ConfigError(ThinkTwiceError):
    """The configuration or the command line cannot be used."""


class RecordError(ThinkTwiceError):
    """A group record cannot be encoded or decoded."""


class SegmentCorrupt(RecordError):
    """A sealed segment does not hold what it was sealed with."""


class RegistryError(ThinkTwiceError):
    """The policy registry cannot do what was asked."""


class PolicyNotFound(RegistryError):
    """No policy of that name is registered."""


class PolicyConflict(RegistryError):
    """The champion is not what the caller thinks it is."""


class CalibrationError(ThinkTwiceError):
    """A calibration cannot be fitted from what there is, or its file cannot be used."""


class TrainingError(ThinkTwiceError):
    """A training run or an evaluation cannot go on; nothing came of it."""
