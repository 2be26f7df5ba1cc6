"""Talks to a Langfuse server: its routes, in the order of its pages, and what it refuses.

Routes and their answers: Langfuse's OpenAPI document and server 4.16. Scores go through
`/api/public/ingestion`: `/api/public/scores` gives each the time at which it is sent, and one that
is sent again on another day would be there twice.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeAlias
from urllib.parse import quote

import httpx

from qwenkit.chat.remote import is_local
from qwenkit.errors import InvalidSettings, RemoteError, RemoteUnreachable
from qwenkit.feedback.langfuse.observations import Observation, json_text
from qwenkit.feedback.langfuse.otlp import Encoder
from qwenkit.feedback.langfuse.scores import Score
from qwenkit.settings import LangfuseSpec

Json: TypeAlias = dict[str, Any]
Wait: TypeAlias = Callable[[float], bool]
"""Waits so many seconds; True where there is no point in trying again."""

TRACES = "/api/public/otel/v1/traces"
INGESTION = "/api/public/ingestion"
SCORES = "/api/public/v3/scores"
ITEMS = "/api/public/dataset-items"
RUN_ITEMS = "/api/public/dataset-run-items"
INGESTION_VERSION = "4"
PAGE = 100
"""Items of a page: the most that Langfuse gives."""
MAX_BYTES = 4 * 1024 * 1024
"""Most bytes of observations that are sent together; one that is larger goes alone."""
PAUSES_S = (1.0, 4.0)
"""Seconds before what may be a passing failure is tried again."""
MAX_PAUSE_S = 30.0
_SCORE_FIELDS = ("id", "name", "dataType", "source", "updatedAt")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_HINTS = {
    403: "use the keys of a project: those of an organisation can't",
    404: "check LANGFUSE_BASE_URL; scores are read from Langfuse 4",
    **dict.fromkeys((301, 302, 307, 308), "set LANGFUSE_BASE_URL to where that leads"),
    413: "send less at once: set LANGFUSE_FLUSH_AT lower",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A score that Langfuse did not take.

    Args:
        id: The score's.
        status: As an HTTP status.
        why: In its words.
    """

    id: str
    status: int
    why: str


class LangfuseClient:
    """A Langfuse project. Use it as a context manager, or close it.

    Args:
        spec: Where it is, and the keys.
        wait: Waits before another try.
        pauses_s: Seconds before each of them.

    Raises:
        MissingExtra: The extra `langfuse` is not installed.
    """

    def __init__(
        self,
        spec: LangfuseSpec,
        *,
        wait: Wait | None = None,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self.url = spec.base_url
        self._encoder = Encoder()
        self._wait = wait or _sleep
        self._pauses_s = tuple(pauses_s)
        self._http = httpx.Client(
            auth=httpx.BasicAuth(spec.public_key, spec.secret_key),
            headers={
                "x-langfuse-sdk-name": "python",
                "x-langfuse-sdk-version": self._encoder.version,
                "x-langfuse-public-key": spec.public_key,
            },
            timeout=spec.timeout_s,
            # A proxy from the environment can't reach a server on this machine.
            trust_env=not is_local(httpx.URL(spec.base_url)),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send_observations(self, observations: Sequence[Observation]) -> None:
        """Send observations, in parts where they are large.

        Raises:
            InvalidSettings: The keys are refused.
            RemoteError: Langfuse refuses them.
            RemoteUnreachable: It does not answer.
        """
        headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            "x-langfuse-ingestion-version": INGESTION_VERSION,
        }
        for part in _by_size(observations):
            body = gzip.compress(self._encoder.encode(part), compresslevel=1)
            self._send("POST", TRACES, content=body, headers=headers)

    def send_scores(self, scores: Sequence[Score]) -> list[Refused]:
        """Send scores; returns those that were not taken.

        Raises:
            InvalidSettings: The keys are refused.
            RemoteError: Langfuse refuses the request.
            RemoteUnreachable: It does not answer.
        """
        answer = self._call("POST", INGESTION, {"batch": [each.as_event() for each in scores]})
        with self._read(INGESTION):
            return [
                Refused(str(each["id"]), int(each["status"]), _reason(each))
                for each in answer["errors"]
            ]

    def delete_score(self, score_id: str) -> None:
        """Delete a score; nothing where there is none.

        Raises:
            InvalidSettings: The keys are refused.
            RemoteError: Langfuse refuses.
            RemoteUnreachable: It does not answer.
        """
        path = f"/api/public/scores/{quote(score_id, safe='')}"
        self._send("DELETE", path, fine=(404,))

    def scores(self, *, sources: Sequence[str], since: str | None = None) -> Iterator[Json]:
        """Every score, with what it is of and who gave it, page by page.

        Args:
            sources: Where they were given: `ANNOTATION`, `API`, `EVAL`.
            since: Given at this moment or later.

        Raises:
            InvalidSettings: The keys are refused.
            RemoteError: Langfuse refuses.
            RemoteUnreachable: It does not answer.
        """
        asked = {
            "source": ",".join(sources),
            "fields": "details,subject,annotation",
            "limit": str(PAGE),
            **({"fromTimestamp": since} if since else {}),
        }
        cursor: str | None = None
        while True:
            params = asked | ({"cursor": cursor} if cursor else {})
            page = self._call("GET", SCORES, params=params)
            with self._read(SCORES):
                found = [_with(each, *_SCORE_FIELDS) for each in page["data"]]
                cursor = page["meta"].get("cursor")
            yield from found
            if not cursor:
                return

    def create_dataset(self, name: str, *, description: str, metadata: Mapping[str, Any]) -> None:
        """Make a dataset, or describe the one of that name anew.

        Raises:
            InvalidSettings: The keys are refused.
            RemoteError: Langfuse refuses.
            RemoteUnreachable: It does not answer.
        """
        body = {"name": name, "description": description, "metadata": metadata}
        self._call("POST", "/api/public/v2/datasets", body)

    def dataset(self, name: str) -> Json:
        """The dataset of that name.

        Raises:
            InvalidSettings: The keys are refused.
            RemoteError: There is none, or Langfuse refuses.
            RemoteUnreachable: It does not answer.
        """
        path = f"/api/public/v2/datasets/{quote(name, safe='')}"
        found = self._call("GET", path)
        with self._read(path):
            return _with(found, "id")

    def put_item(self, item: Mapping[str, Any]) -> None:
        """Add an item to a dataset, or put it in place of the one of its id.

        Raises:
            InvalidSettings: The keys are refused.
            RemoteError: Langfuse refuses.
            RemoteUnreachable: It does not answer.
        """
        self._call("POST", ITEMS, item)

    def items(self, dataset: str) -> Iterator[Json]:
        """Every item of a dataset that is in use, page by page.

        Raises:
            InvalidSettings: The keys are refused.
            RemoteError: Langfuse refuses.
            RemoteUnreachable: It does not answer.
        """
        number = 1
        while True:
            params = {"datasetName": dataset, "page": str(number), "limit": str(PAGE)}
            page = self._call("GET", ITEMS, params=params)
            with self._read(ITEMS):
                found = [_with(each, "id") for each in page["data"]]
                n_pages = int(page["meta"]["totalPages"])
            yield from (each for each in found if each.get("status") != "ARCHIVED")
            if number >= n_pages:
                return
            number += 1

    def link_run(self, item: Mapping[str, Any]) -> str:
        """Make an answer part of a run of its dataset; returns the run's id.

        Raises:
            InvalidSettings: The keys are refused.
            RemoteError: Langfuse refuses.
            RemoteUnreachable: It does not answer.
        """
        made = self._call("POST", RUN_ITEMS, item)
        with self._read(RUN_ITEMS):
            return str(made["datasetRunId"])

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> Json:
        """What a route answers with: a JSON object."""
        text = None if body is None else json_text(body).encode("utf-8", "replace")
        headers = {} if body is None else {"Content-Type": "application/json"}
        response = self._send(method, path, content=text, params=params, headers=headers)
        try:
            answer = response.json()
        except ValueError as exc:
            raise self._strange(path, response.status_code) from exc
        if not isinstance(answer, dict):
            raise self._strange(path, response.status_code)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        fine: tuple[int, ...] = (),
    ) -> httpx.Response:
        """Send a request until it is answered, refused, or has failed too often."""
        request = self._http.build_request(
            method, self.url + path, content=content, params=params, headers=headers
        )
        for pause_s in (*self._pauses_s, None):
            failure: RemoteUnreachable | None = None
            try:
                with self._translated():
                    response = self._http.send(request)
                if response.status_code not in _PASSING:
                    break
            except RemoteUnreachable as exc:
                failure = exc
            if pause_s is None or self._wait(_pause(None if failure else response, pause_s)):
                if failure is not None:
                    raise failure
                break
        if response.is_success or response.status_code in fine:
            return response
        raise self._refusal(response)

    @contextmanager
    def _read(self, path: str) -> Iterator[None]:
        """Where an answer is taken apart."""
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise self._strange(path, httpx.codes.OK) from exc

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise RemoteUnreachable(
                f"Langfuse at {self.url} does not answer: {str(exc) or type(exc).__name__}",
                hint="start it, or set LANGFUSE_BASE_URL",
            ) from exc

    def _refusal(self, response: httpx.Response) -> InvalidSettings | RemoteError:
        if response.status_code == httpx.codes.UNAUTHORIZED:
            return InvalidSettings(
                f"Langfuse at {self.url} refuses the keys",
                hint="set LANGFUSE_API_KEY to PUBLIC:SECRET of a project there",
            )
        try:
            why = _reason(response.json())
        except ValueError:
            why = response.text[:200]
        return RemoteError(
            f"Langfuse at {self.url} answers {response.status_code}: {why}",
            status=response.status_code,
            hint=_HINTS.get(response.status_code, ""),
        )

    def _strange(self, what: str, status: int) -> RemoteError:
        return RemoteError(
            f"Langfuse at {self.url} gives no such answer to `{what}` as it should",
            status=status,
            hint="check that LANGFUSE_BASE_URL is a Langfuse server of version 4",
        )


def _by_size(observations: Sequence[Observation]) -> Iterator[list[Observation]]:
    """Observations in parts that are not too large to be sent."""
    part: list[Observation] = []
    size = 0
    for each in observations:
        if part and size + each.size > MAX_BYTES:
            yield part
            part, size = [], 0
        part.append(each)
        size += each.size
    if part:
        yield part


def _with(found: Json, *names: str) -> Json:
    """An object that has these fields.

    Raises:
        KeyError: It lacks one.
    """
    for name in names:
        _ = found[name]
    return found


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _pause(response: httpx.Response | None, pause_s: float) -> float:
    """How long to wait: as the server says, where it says so in seconds."""
    said = "" if response is None else response.headers.get("Retry-After", "")
    return min(float(said), MAX_PAUSE_S) if said.isdecimal() else pause_s


def _reason(answer: Any) -> str:
    """Why something is refused, in the server's words."""
    if not isinstance(answer, dict):
        return str(answer)[:200]
    said = [str(answer[name]) for name in ("message", "error") if answer.get(name)]
    return ": ".join(said)[:500] or str(answer)[:200]
