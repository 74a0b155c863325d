"""The Hugging Face Hub: download an adapter's two files, and push them with a model card in one commit."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, constants, hf_hub_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is that of requests, httpx or httpx2
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import Tensor

from vilt_prompt.checks import check_string
from vilt_prompt.config import JsonObject
from vilt_prompt.sharing.errors import AdapterIOError
from vilt_prompt.sharing.files import CARD_NAME
from vilt_prompt.sharing.record import config_text, serialise

ATTEMPTS = 4
FIRST_WAIT = 1.0  # seconds, doubled each time
HUB_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "force_download")  # of `fetch`

# In httpx, `HTTPError` includes failed connections. The client before 1.0 uses requests, where only the base class of
# `HTTPError` includes them.
TransportError: Any = HTTPError if HTTPError.__base__ is Exception else HTTPError.__base__

T = TypeVar("T")


def fetch(
    path_or_repo: str | os.PathLike[str],
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """Return the local folder with an adapter's files: the given folder, or a folder in the Hub's cache.

    From the Hub, only the config and the safetensors file are downloaded, both from the same commit. A pickle such as
    `adapter_model.bin` is never downloaded.
    """
    if not isinstance(path_or_repo, str | os.PathLike):
        raise TypeError(
            'path_or_repo must be the folder that save_pretrained(...) wrote, or a repository id like "user/name", '
            f"got {path_or_repo!r}"
        )
    check_string("subfolder", subfolder)
    parts = PurePosixPath(subfolder or "").parts
    if {"/", "//", ".."} & {*parts} or {*"\\:\0"} & {*(subfolder or "")}:
        raise ValueError(f"subfolder={subfolder!r} leads out of the folder or repository: give a path inside of it")
    subfolder = "/".join(parts) or None  # the Hub does not accept "a/" or "a//b"
    folder = Path(path_or_repo, subfolder or "")
    if Path(path_or_repo).is_dir():
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}: give the subfolder that save_pretrained(...) wrote")
        return folder
    if Path(path_or_repo).is_file():
        raise ValueError(f"{path_or_repo} is a file: give the folder that it is in")
    repo_id = os.fspath(path_or_repo)
    if isinstance(path_or_repo, Path) or not _may_be_repository(repo_id):
        raise ValueError(
            f"there is no folder {folder}: give the folder that save_pretrained(...) wrote, or a repository id like "
            '"user/name"'
        )
    start = f"{repo_id!r} is not a local folder, and cannot be downloaded from the Hub{_at(revision)}"
    with _explained(start, repo_id, "Nothing of it is kept: try again"):
        for name in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME):
            file = hf_hub_download(
                repo_id,
                name,
                subfolder=subfolder,
                revision=revision,
                token=token,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                local_files_only=local_files_only,
                force_download=force_download,
                library_name="vilt-prompt",
            )
            # Another commit may be pushed between the two downloads, so the second file is taken from the commit of the
            # first: its path is .../snapshots/COMMIT/...
            revision = Path(file).parents[len(parts)].name
    return Path(file).parent


def push(
    repo_id: str,
    config: JsonObject,
    tensors: dict[str, Tensor],
    card: Callable[[str], str],
    *,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    create_pr: bool,
    commit_message: str,
    is_card_filled: bool,
) -> CommitInfo:
    """Push an adapter's files to the root of a repository in one commit. The repository is created if necessary.

    Args:
        repo_id: The repository.
        config: The fields of the config.
        tensors: The tensors by name.
        card: Makes the README from the repository's full id. It is not called if the repository has a README.
        private: Whether a new repository is private. None: the Hub's default.
        token: Access token. None: the token of `hf auth login`.
        revision: The branch, which is created if it does not exist. None: the main branch.
        create_pr: Whether to open a pull request instead of committing to the branch.
        commit_message: The first line of the commit message.
        is_card_filled: Whether to warn if a README that is kept lacks the facts for the new one.
    """
    api = HfApi(token=token, library_name="vilt-prompt")
    text = config_text(config)
    with _explained(f"the adapter cannot be pushed to {repo_id!r}{_at(revision)}", repo_id, "Push again"):
        repo_id = _patiently(lambda: api.create_repo(repo_id, private=private, exist_ok=True)).repo_id
        if revision is not None and not _patiently(lambda: api.revision_exists(repo_id, revision)):
            _patiently(lambda: api.create_branch(repo_id, branch=revision, exist_ok=True))
        files = {CONFIG_NAME: text.encode(), SAFETENSORS_WEIGHTS_NAME: serialise(text, tensors)}
        if not _patiently(lambda: api.file_exists(repo_id, CARD_NAME, revision=revision)):
            files[CARD_NAME] = card(repo_id).encode()
        elif is_card_filled:
            warnings.warn(
                f"{repo_id} has a {CARD_NAME}, which is kept: class names, metrics and the like are not in it. Delete "
                "it there and push again for a new one",
                stacklevel=3,
            )

        def commit() -> CommitInfo:
            # An operation remembers that its file was uploaded, so each attempt needs new ones.
            operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()]
            try:
                return api.create_commit(
                    repo_id, operations, commit_message=commit_message, revision=revision, create_pr=create_pr
                )
            except RuntimeError as error:  # the client before 1.0 wraps the error of an upload
                raise error.__cause__ or error from None

        # Repeating a commit is harmless: without changes the Hub makes no commit. A pull request would be opened twice.
        return commit() if create_pr else _patiently(commit)


def _patiently(call: Callable[[], T]) -> T:
    """Repeat a call if the server fails. The Hub's client repeats only downloads and uploads of files."""
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        # Some calls parse a response before they check its status.
        except (TransportError, json.JSONDecodeError) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
                raise
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
    return call()


@contextlib.contextmanager
def _explained(start: str, repo_id: str, way_out: str) -> Iterator[None]:
    """Replace the errors of the Hub's client by errors that say what to do."""
    try:
        yield
    except GatedRepoError as error:
        raise ValueError(
            f"{start}: access is gated. Ask for it at {constants.ENDPOINT}/{repo_id}, then pass token= of that user"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{start}: there is no such repository, or it is private and the token does not open it. Check the name, "
            "and pass token= or log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{start}: there is no such branch, tag or commit. Check revision=") from error
    except LocalEntryNotFoundError as error:
        if error.__cause__ is None or constants.HF_HUB_OFFLINE:
            raise ValueError(
                f"{start}: it is not in the cache, and local_files_only or HF_HUB_OFFLINE forbids a download. "
                "Fetch it once online, or check cache_dir= and revision="
            ) from error
        raise AdapterIOError(
            f"{start}: {constants.ENDPOINT} does not answer ({error.__cause__}), and it is not in the cache. Check the "
            "connection and HF_ENDPOINT, and try again"
        ) from error
    except EntryNotFoundError as error:
        raise ValueError(
            f"{start}: it holds no {CONFIG_NAME} or no {SAFETENSORS_WEIGHTS_NAME} (pickles are never loaded). If the "
            "adapter is in a folder there, pass subfolder="
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise ValueError(
                f"{start}: there is no token, or it is not valid. Log in with `hf auth login`, or pass token="
            ) from error
        if status < 500:
            reason = error.server_message or error
            raise ValueError(
                f"{start}: the server answers {status} ({reason}). Check that the token may do this"
            ) from error
        raise AdapterIOError(f"{start}: the server fails with {status}. {way_out}, later") from error
    except TransportError as error:
        raise AdapterIOError(f"{start}: the connection to {constants.ENDPOINT} broke ({error}). {way_out}") from error
    except HFValidationError as error:
        raise ValueError(f"{start}: it is not a repository id ({error}). Expected 'user/name'") from error
    except OSError as error:
        advice = "the disk is full: free some space, or pass cache_dir=" if error.errno == errno.ENOSPC else str(error)
        raise AdapterIOError(f"{start}: {advice}. {way_out}") from error
    except ValueError as error:  # force_download without a connection, for one
        raise AdapterIOError(f"{start}: {error.__cause__ or error}. {way_out}") from error


def _at(revision: str | None) -> str:
    return "" if revision is None else f" at revision {revision!r}"


def _may_be_repository(name: str) -> bool:
    """Whether a name has the form "user/name"."""
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and parts[0][0] not in ".~" and not os.path.isabs(name)
