import pytest

from gateway.http.client_timeout import client_timeout_s
from router.errors import InvalidRequest


@pytest.mark.parametrize(
    ("headers", "stream", "seconds"),
    [
        ({}, False, None),
        ({"x-request-timeout": "2.5"}, False, 2.5),
        ({"x-request-timeout": "2.5"}, True, 2.5),
        ({"x-stainless-read-timeout": "600"}, False, 599.5),
        ({"x-stainless-read-timeout": "600"}, True, None),
        ({"x-stainless-timeout": "2"}, False, 1.8),
        ({"x-request-timeout": "3", "x-stainless-read-timeout": "600"}, False, 3.0),
        ({"x-stainless-read-timeout": "None"}, False, None),
    ],
)
def test_what_a_client_says(headers: dict[str, str], stream: bool, seconds: float | None) -> None:
    assert client_timeout_s(headers, stream=stream) == seconds


@pytest.mark.parametrize("given", ["", "soon", "0", "-1", "nan", "inf"])
def test_what_is_no_time(given: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client_timeout_s({"x-request-timeout": given}, stream=False)
    assert refused.value.param == "x-request-timeout"
