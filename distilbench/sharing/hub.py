"""``push``: an exported student to a model hub, through huggingface_hub. The token is read from the environment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from distilbench.sharing.export import ExportedModel, export_model
from harness.api_key import ApiKey
from harness.errors import UserError
from results.run.find import RUNS

TOKEN = ApiKey("HF_TOKEN")
REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_*", "adapter/*")
"""Of a model that was there before: a loader must not find two."""


@dataclass(frozen=True)
class PushedModel:
    url: str
    private: bool
    model: ExportedModel


def push(
    run: str | Path, row: str, repo: str, *, seed: int = 0, adapter: bool = False, public: bool = False,
    runs: str | Path = RUNS,
    plugins: Sequence[str] = (),
) -> PushedModel:  # fmt: skip
    """Export the student (``export_model``) and upload it to ``repo`` (``owner/name``).

    A new repository is private unless ``public``. Raises UserError without a token, where the hub refuses, and where
    ``repo`` is public already and ``public`` was not asked for.
    """
    if REPO.fullmatch(repo) is None:
        raise UserError(f"repository {repo!r}: write owner/name, with letters, digits, '.', '_' and '-'.")
    check_token()
    with TemporaryDirectory(prefix="distilbench-push-") as place:
        model = export_model(
            run, row, Path(place) / "model", seed=seed, adapter=adapter, repo=repo, runs=runs, plugins=plugins
        )
        try:
            url, private = upload(model, repo, public)
        except UserError:
            raise
        except HfHubHTTPError as error:
            raise UserError(f"{constants.ENDPOINT} refused {repo}: {TOKEN.scrub(str(error))}") from None
        except Exception as error:  # noqa: BLE001, of the connection: the classes of huggingface_hub's own library
            cause = error.__cause__ or error
            text = TOKEN.scrub(f"{type(cause).__name__}: {cause}")
            raise UserError(
                f"the upload to {constants.ENDPOINT} failed: {text}. The same command tries again."
            ) from None
    return PushedModel(url, private, model)


def check_token() -> None:
    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set: unset it to push.")
    if TOKEN.value == "none":
        raise UserError(
            f"push needs a token that may write: set the environment variable {TOKEN.variable}. It goes into no file "
            "and no message. Without one, `distilbench export-model` writes the same folder here."
        )
    if problem := TOKEN.problem():
        raise UserError(problem)


def upload(model: ExportedModel, repo: str, public: bool) -> tuple[str, bool]:
    """Address of the repository, and whether it is private."""
    api = HfApi(token=TOKEN.value, library_name="distilbench")
    try:
        private = bool(api.model_info(repo).private)
        if not private and not public:
            raise UserError(f"{repo} is there and public: say --public to add to it, or name another repository.")
    except RepositoryNotFoundError:
        private = not public
        api.create_repo(repo, private=private, exist_ok=True)
    student = model.student
    api.upload_folder(
        repo_id=repo, folder_path=model.folder, delete_patterns=list(WEIGHTS),
        commit_message=f"{student.name} of the run {student.run.name}, by distilbench",
    )  # fmt: skip
    return f"{constants.ENDPOINT}/{repo}", private
