"""Errors of the engine's HTTP dialect, in the shape vLLM and OpenAI share."""

from __future__ import annotations

from http import HTTPStatus

ERROR_TYPES = {
    HTTPStatus.BAD_REQUEST: "BadRequestError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestTooLargeError",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalServerError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
}


class ApiError(Exception):
    """A request cannot be served. `param` names the offending field, `status` is the HTTP status."""

    def __init__(self, message: str, param: str | None = None, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.status = status

    def body(self) -> dict[str, object]:
        """Return the error object as it goes on the wire: `{"error": {message, type, param, code}}`."""
        kind = ERROR_TYPES.get(self.status, "BadRequestError")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": int(self.status)}}


class EngineSetupError(Exception):
    """The engine cannot start. The message is one line and says how to cure it."""
