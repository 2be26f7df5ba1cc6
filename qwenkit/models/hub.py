"""The Hugging Face Hub: what a repository holds, and its files on this disk.

Every exception of huggingface_hub ends here as a `ModelError` that gives the reason. Downloads go
to huggingface_hub's own cache, resume where they stopped, and are found there without a network.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from qwenkit.errors import DownloadFailed, ModelNotFound
from qwenkit.models.atomic import require_space
from qwenkit.models.progress import Advance, ProgressFactory, silent

if TYPE_CHECKING:
    from huggingface_hub import CachedRevisionInfo

DEFAULT_REVISION = "main"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB_ID = re.compile(
    rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[\w./-]+?))?(?:/(?P<path>[^:@]+))?(?::(?P<quant>[\w.-]+))?"
)


@dataclass(frozen=True, slots=True)
class HubId:
    """A place on the Hub, as users write it: `owner/name[@revision][/path][:QUANT]`.

    Args:
        repo: `owner/name`.
        revision: Branch, tag or commit.
        path: A file or folder inside the repository; empty for all of it.
        quant: The quantisation to take from a GGUF repository; empty for the default one.
    """

    repo: str
    revision: str = DEFAULT_REVISION
    path: str = ""
    quant: str = ""

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repo.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds.

    Args:
        id: Which one.
        sizes: Bytes by file name.
        local: Where each file lies that is already on this disk.
    """

    id: HubId
    sizes: dict[str, int] = field(repr=False)
    local: dict[str, Path] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CachedRepo:
    """A repository in the Hub cache."""

    repo: str
    path: Path
    size_bytes: int
    files: tuple[str, ...] = field(repr=False)


def parse_hub_id(text: str) -> HubId | None:
    """Read a Hub id, or None when `text` is not spelled like one."""
    match = _HUB_ID.fullmatch(text)
    if match is None or match["repo"].endswith((".gguf", ".safetensors")):
        return None
    parts = {key: value for key, value in match.groupdict().items() if value}
    return HubId(**parts)


@dataclass(frozen=True, slots=True)
class Hub:
    """Access to the Hub.

    Args:
        token: For gated and private repositories; None takes the one saved by `hf auth login`.
        offline: Use only what is in the cache.
        endpoint: Another Hub than huggingface.co.
        cache: Another folder than huggingface_hub's own.
    """

    token: str | None = field(default=None, repr=False)
    offline: bool = False
    endpoint: str | None = None
    cache: Path | None = None

    def list_files(self, hub_id: HubId) -> Listing:
        """List a repository; without a network, what the cache has of it.

        Raises:
            ModelNotFound: No such repository or revision.
            DownloadFailed: The Hub can't be asked, and the cache has nothing.
        """
        if self.offline:
            return self._local_listing(hub_id)
        try:
            with _translated(hub_id):
                commit, sizes = self._ask(hub_id)
        except _Unreachable:
            if not self._cached_files(hub_id.repo, hub_id.revision):
                raise
            return self._local_listing(hub_id)
        return Listing(hub_id, sizes, self._cached_files(hub_id.repo, commit))

    def download(
        self, listing: Listing, names: Sequence[str], *, progress: ProgressFactory = silent
    ) -> list[Path]:
        """Fetch files that aren't there yet, and return where all of them are.

        Raises:
            DownloadFailed: The Hub or the network said no; what came so far is kept.
            InvalidSettings: Too little space on the disk.
        """
        missing = [name for name in names if name not in listing.local]
        if missing:
            n_bytes = sum(listing.sizes[name] for name in missing)
            require_space(self._folder(), n_bytes, purpose=f"downloading `{listing.id.repo}`")
            with progress(f"Downloading {listing.id.repo}", total=n_bytes) as advance:
                for name in missing:
                    self._fetch(listing, name, advance)
        return [listing.local[name] for name in names]

    def cached_repos(self) -> list[CachedRepo]:
        """Every model repository in the cache."""
        return [
            CachedRepo(
                repo=repo.repo_id,
                path=repo.repo_path,
                size_bytes=repo.size_on_disk,
                files=tuple(sorted({f.file_name for r in repo.revisions for f in r.files})),
            )
            for repo in self._scan()
        ]

    def _ask(self, hub_id: HubId) -> tuple[str, dict[str, int]]:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint, token=self.token)
        info = api.model_info(hub_id.repo, revision=hub_id.revision, files_metadata=True)
        sizes = {entry.rfilename: entry.size or 0 for entry in info.siblings or []}
        return info.sha or "", sizes

    def _fetch(self, listing: Listing, name: str, advance: Advance) -> None:
        from huggingface_hub import hf_hub_download

        counter = _Counter(advance)
        with _translated(listing.id, name):
            path = hf_hub_download(
                listing.id.repo,
                name,
                revision=listing.id.revision,
                cache_dir=self.cache,
                token=self.token,
                endpoint=self.endpoint,
                tqdm_class=counter.bar_class(),
            )
        advance(max(0, listing.sizes[name] - counter.n_counted))
        listing.local[name] = Path(path)

    def _cached_files(self, repo: str, revision: str) -> dict[str, Path]:
        for cached in self._scan():
            for snapshot in cached.revisions if cached.repo_id == repo else ():
                if revision in snapshot.refs or revision == snapshot.commit_hash:
                    return _snapshot_files(snapshot)
        return {}

    def _local_listing(self, hub_id: HubId) -> Listing:
        local = self._cached_files(hub_id.repo, hub_id.revision)
        if not local:
            raise DownloadFailed(
                f"`{hub_id.repo}` is not in the cache, and downloads are off (HF_HUB_OFFLINE)",
                hint=f"run `qwenkit model pull {hub_id.repo}` where there is a network",
            )
        return Listing(hub_id, {name: path.stat().st_size for name, path in local.items()}, local)

    def _scan(self) -> list[Any]:
        from huggingface_hub import CacheNotFound, scan_cache_dir

        try:
            repos = scan_cache_dir(self.cache).repos
        except (CacheNotFound, ValueError):
            return []
        return sorted(
            (repo for repo in repos if repo.repo_type == "model"), key=lambda repo: repo.repo_id
        )

    def _folder(self) -> Path:
        from huggingface_hub import constants

        return self.cache or Path(constants.HF_HUB_CACHE)


class _Unreachable(DownloadFailed):
    """The Hub could not be asked, so what the cache has is the best there is."""


class _Counter:
    """Counts downloaded bytes through the progress bars that huggingface_hub makes."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance
        self.n_counted = 0

    def add(self, n_bytes: float | None) -> None:
        self.n_counted += int(n_bytes or 0)
        self.advance(int(n_bytes or 0))

    def bar_class(self) -> Any:
        """A class with the part of tqdm's interface that huggingface_hub uses."""
        counter = self

        class Bar:
            def __init__(self, *_: Any, initial: float = 0, total: Any = None, **__: Any) -> None:
                self.total = total
                # What an interrupted download left is counted at once.
                counter.add(initial)

            def __enter__(self) -> Bar:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def __getattr__(self, _: str) -> Any:
                return lambda *_, **__: None

            def update(self, n: float | None = 1) -> None:
                counter.add(n)

        return Bar


@contextmanager
def _translated(hub_id: HubId, name: str = "") -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as exc:
        raise DownloadFailed(
            f"`{hub_id.repo}` is gated and this token has no access to it",
            hint=f"accept its terms at https://huggingface.co/{hub_id.repo} and set HF_TOKEN",
        ) from exc
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as exc:
        raise ModelNotFound(
            f"the Hub has no repository `{hub_id.repo}`, or it is private",
            hint="check the spelling; for a private one set HF_TOKEN",
        ) from exc
    except errors.RevisionNotFoundError as exc:
        raise ModelNotFound(f"`{hub_id.repo}` has no revision `{hub_id.revision}`") from exc
    except errors.RemoteEntryNotFoundError as exc:
        raise ModelNotFound(f"`{hub_id.repo}` has no file `{name}`") from exc
    except errors.HfHubHTTPError as exc:
        _refused(hub_id, exc, exc.response.status_code)
    except (_transport_error(), OSError) as exc:
        _unreachable(hub_id, exc)


def _refused(hub_id: HubId, exc: Exception, status: int) -> NoReturn:
    if status in (401, 403):
        raise DownloadFailed(
            f"the Hub refused the token for `{hub_id.repo}` ({status})", hint="renew HF_TOKEN"
        ) from exc
    if status >= 500:
        raise _Unreachable(f"the Hub has a problem of its own ({status})") from exc
    raise DownloadFailed(f"the Hub answered {status} for `{hub_id.repo}`") from exc


def _unreachable(hub_id: HubId, exc: BaseException) -> NoReturn:
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
        raise DownloadFailed(f"`{hub_id.repo}` could not be stored: {exc.strerror}") from exc
    root = exc
    while root.__cause__ is not None:
        root = root.__cause__
    raise _Unreachable(
        f"the Hub could not be reached for `{hub_id.repo}`: {root}",
        hint="run it again when there is a network; the download goes on where it stopped",
    ) from exc


def _transport_error() -> type[Exception]:
    # huggingface_hub changed its HTTP library twice; its own error's base names the current one.
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__mro__[1]
    return base


def _snapshot_files(snapshot: CachedRevisionInfo) -> dict[str, Path]:
    return {
        file.file_path.relative_to(snapshot.snapshot_path).as_posix(): file.file_path
        for file in snapshot.files
    }
