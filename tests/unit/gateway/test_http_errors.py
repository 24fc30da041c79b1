import inspect

import pytest

from gateway.http import http_errors
from router import errors
from router.errors import BackendRejected, ModelNotFound, ThinkTwiceError, VerifierUnavailable

TREE = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, ThinkTwiceError)]
NEVER_IN_A_REQUEST = {
    errors.CalibrationError,
    errors.ConfigError,
    errors.ToolError,
    errors.CalibrationError,
    errors.TrainingError,
}


@pytest.mark.parametrize("cls", TREE)
def test_every_error_has_a_shape_of_its_own_or_of_its_family(cls: type[ThinkTwiceError]) -> None:
    nearest = next(base for base in cls.__mro__ if base in http_errors.SHAPES)
    assert nearest is not ThinkTwiceError or cls in NEVER_IN_A_REQUEST | {ThinkTwiceError}


def test_the_openai_shape() -> None:
    body = http_errors.error_body(ModelNotFound("no such model", "model"))
    assert body == {
        "error": {
            "message": "no such model",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


def test_an_engines_refusal_is_passed_on() -> None:
    refusal = {"error": {"message": "too long", "type": "BadRequestError", "code": 400}}
    error = BackendRejected("too long", 400, refusal)
    assert http_errors.status_of(error) == 400
    assert http_errors.error_body(error) == refusal
    assert http_errors.error_headers(error) == {}
    busy = BackendRejected("busy", 429, refusal, retry_after="7")
    assert http_errors.error_headers(busy) == {"Retry-After": "7"}


def test_a_client_is_told_not_to_retry_what_cannot_help() -> None:
    headers = http_errors.error_headers(VerifierUnavailable("down"))
    assert headers["x-should-retry"] == "false" and int(headers["Retry-After"]) > 0
