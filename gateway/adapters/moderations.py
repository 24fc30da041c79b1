"""The classifier over HTTP: any server with OpenAI's `POST /v1/moderations` (`router.ports.Classifier`)."""

from __future__ import annotations

import aiohttp
import msgspec

from router.enums import Outcome
from router.settings import PolicySection


class _Result(msgspec.Struct):
    flagged: bool


class _Answer(msgspec.Struct):
    results: list[_Result]


class Moderations:
    """One classifier. Opened on first use; `close` it."""

    def __init__(self, url: str, section: PolicySection) -> None:
        self._url, self._section = url, section
        self._opened: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connection pool."""
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    async def judge(self, text: str) -> Outcome:
        """`FAIL` when it flags `text`, `PASS` when it does not, `ERROR` or `TIMEOUT` when it does not say."""
        body = {"input": text} | ({"model": self._section.classifier_model} if self._section.classifier_model else {})
        try:
            async with self._session().post(self._url, data=msgspec.json.encode(body)) as response:
                if response.status != 200:
                    return Outcome.ERROR
                answer = msgspec.json.decode(await response.read(), type=_Answer)
        except TimeoutError:
            return Outcome.TIMEOUT
        except (aiohttp.ClientError, ConnectionError, msgspec.MsgspecError):
            return Outcome.ERROR
        if not answer.results:
            return Outcome.ERROR
        return Outcome.FAIL if any(result.flagged for result in answer.results) else Outcome.PASS

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            headers = {"Content-Type": "application/json"}
            if self._section.classifier_api_key:
                headers["Authorization"] = f"Bearer {self._section.classifier_api_key}"
            self._opened = aiohttp.ClientSession(
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=self._section.classifier_timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._opened
