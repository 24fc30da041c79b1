from typing import Any

import pytest

from router.engine_urls import engine_urls
from router.errors import ConfigError
from router.settings import BackendSection, load_settings

A, B = "http://10.0.0.5:8000", "https://engine.example:443/base"


@pytest.mark.parametrize("given", [[A, B], f"{A},{B}", f" {A}/ , {B}", f'["{A}", "{B}"]'])
def test_every_spelling(given: Any) -> None:
    assert engine_urls(given) == (A, B)
    assert BackendSection(url=given).urls == (A, B)


def test_one() -> None:
    assert engine_urls(A) == (A,) and BackendSection().urls == ("http://127.0.0.1:8100",)


@pytest.mark.parametrize("given", ["", "10.0.0.5:8000", "ftp://a", "http://", f"{A},", f"{A},{A}/", [], [1], 3, "[1"])
def test_what_is_no_engine(given: Any) -> None:
    with pytest.raises(ValueError):
        engine_urls(given)


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for spelling in (f"{A},{B}", f'["{A}","{B}"]'):
        monkeypatch.setenv("THINKTWICE_BACKEND__URL", spelling)
        assert load_settings().backend.urls == (A, B)
    monkeypatch.setenv("THINKTWICE_BACKEND__URL", "nonsense")
    with pytest.raises(ConfigError, match="not the URL of an engine"):
        load_settings()
