"""Models on the Hugging Face Hub, by huggingface_hub (the extra ``hub``): ``hf-hub:owner/name``, and `push_to_hub`.

Weights are safetensors and descriptions are JSON, so that nothing that is downloaded is ever executed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

try:
    import huggingface_hub
    from huggingface_hub import errors
except ImportError:
    raise ModuleNotFoundError(
        "models on a hub need huggingface_hub: pip install 'cdanalysis[hub]'", name="huggingface_hub"
    ) from None

from ..faults import one_line
from ..files import json_value
from ..model import Model
from ..model_files import FILES
from ..reports.markdown import table
from ..version import __version__
from ..zoo import CARD, METRICS, WEIGHTS, describe, find

LIBRARY = "cdanalysis"
TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
PIPELINES = {
    "classification": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
}
"""Tasks to the hub's names of them."""
TAGS = ("image-compression", "compressed-domain")


class HuggingFaceHub:
    """Models on the Hugging Face Hub; registered as "hf-hub" in `cdanalysis.registry.HUBS`."""

    def download(self, name: str) -> Path:
        """The folder of a model on the hub, downloaded unless it was before.

        Args:
            name: "owner/name", or "owner/name@revision" for a branch, tag or commit.

        Raises:
            ValueError: for a name that the hub does not allow.
            FileNotFoundError: if there is no such model or revision, or it is not in the cache and the hub cannot be
                reached.
            OSError: if the hub refuses.
        """
        return _downloaded(name)

    def push(
        self,
        source: Model | str | Path,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        license: str | None = None,
        tags: Sequence[str] = (),
    ) -> str:
        """Upload a model; see `push_to_hub`.

        Args:
            source: a model, a zoo name or a folder.
            repo_id: "owner/name" on the hub.
            private: whether a repository that is made is private.
            token: by default that of ``hf auth login``.
            revision: a branch.
            commit_message: by default one that names the model.
            create_pr: open a pull request instead of committing.
            license: for the card.
            tags: for the card.

        Returns:
            the address of the commit, or of the pull request.

        Raises:
            FileNotFoundError: as `push_to_hub`.
            ValueError: as `push_to_hub`.
            OSError: as `push_to_hub`.
        """
        with tempfile.TemporaryDirectory(prefix="cdanalysis-hub-") as folder, _reported(repo_id):
            stage, api = Path(folder), huggingface_hub.HfApi(library_name=LIBRARY, library_version=__version__)
            _stage(source, stage)
            (stage / CARD).write_text(model_card(stage, repo_id, license, tags), encoding="utf-8")
            api.create_repo(repo_id, token=token, private=private, repo_type="model", exist_ok=True)
            if revision is not None and not create_pr:
                api.create_branch(repo_id, branch=revision, token=token, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=str(stage),
                commit_message=commit_message or f"Upload the model {describe(stage)['name']} with {LIBRARY}",
                token=token,
                revision=revision,
                create_pr=create_pr,
                allow_patterns=list(FILES),
                delete_patterns=list(FILES),  # those of a model that was there before; new ones are not deleted
            )
        return str(done.pr_url if create_pr else done.commit_url)


HUB = HuggingFaceHub()


def push_to_hub(source: Model | str | Path, repo_id: str, **options: Any) -> str:
    """Upload a model to the Hugging Face Hub, with a model card. ``cda.load("hf-hub:owner/name")`` reads it.

    Args:
        source: a model; or a zoo name or folder, of which the recipe, ``metrics.json`` and the card are uploaded too. A
            recipe names the folders of its data: look at it before you publish it.
        repo_id: "owner/name" on the hub; made where it does not exist.
        **options: ``private``: whether a repository that is made is private. ``token``: by default that of
            ``hf auth login``. ``revision``: a branch, made where it does not exist. ``commit_message``. ``create_pr``:
            open a pull request instead of committing. ``license``: by the hub's name of it, for the card; none is
            assumed. ``tags``: more of them, for the card.

    Returns:
        the address of the commit, or of the pull request.

    Raises:
        FileNotFoundError: if there is no model of that name or folder.
        ValueError: if the model cannot be saved, or for a name that the hub does not allow.
        OSError: if the hub refuses, or cannot be reached.
    """
    return HUB.push(source, repo_id, **options)


def model_card(
    folder: str | Path, repo_id: str = "owner/name", license: str | None = None, tags: Sequence[str] = ()
) -> str:
    """The card of a model, as Markdown with the hub's metadata before it.

    A card that is in the folder is kept, and only what its metadata lack is added; otherwise the card says what the
    model's files do: tasks, classes, layers, teachers, fingerprint, and the tables of ``metrics.json``.

    Args:
        folder: of the model.
        repo_id: of the repository, for the card's example.
        license: by the hub's name of it; none is assumed.
        tags: beside those of the model's tasks.

    Raises:
        FileNotFoundError: if the folder holds no model.
        ValueError: if a file of it is damaged.
    """
    folder = Path(folder)
    info = describe(folder)
    pipelines = [PIPELINES[task] for task in info["heads"] if task in PIPELINES]
    facts: dict[str, Any] = {
        "library_name": LIBRARY,
        "license": license,
        "pipeline_tag": pipelines[0] if len(pipelines) == 1 else "image-feature-extraction",
        "tags": list(dict.fromkeys([LIBRARY, *TAGS, *pipelines, *tags])),
        "fingerprint": info["fingerprint"],
    }
    if (folder / CARD).is_file():
        card = huggingface_hub.ModelCard((folder / CARD).read_text(encoding="utf-8"), ignore_metadata_errors=False)
        known = card.data.to_dict()
        facts["tags"] = list(dict.fromkeys([*(known.get("tags") or ()), *facts["tags"]]))
        for key, value in facts.items():
            if value is not None and (known.get(key) is None or key in ("license", "tags", "fingerprint")):
                setattr(card.data, key, value)
        return str(card)
    card = huggingface_hub.ModelCard.from_template(
        huggingface_hub.ModelCardData(**facts),
        template_path=str(TEMPLATE),
        repo_id=repo_id,
        info=info,
        tables=_tables(folder, info["fingerprint"]),
        version=__version__,
    )
    return str(card)


def _tables(folder: Path, fingerprint: str) -> list[tuple[str, str]]:
    """Titles and Markdown tables of what ``metrics.json`` holds of the model with that fingerprint."""
    if not (folder / METRICS).is_file():
        return []
    measured, found = json_value((folder / METRICS).read_text(encoding="utf-8")), []
    sections = measured.values() if isinstance(measured, Mapping) else ()
    for section in sections:
        if not isinstance(section, Mapping) or section.get("fingerprint", fingerprint) != fingerprint:
            continue
        for name, part in section.items():
            rows = part.get("rows") if isinstance(part, Mapping) else None
            if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
                count = part.get("photographs", section.get("photographs"))
                title = f"{name}: {section.get('data', 'unnamed data')}"
                found.append((title if count is None else f"{title}, {count} photographs", table(rows)))
    return found


def _stage(source: Model | str | Path, stage: Path) -> None:
    """Put the files that are uploaded into a folder."""
    if isinstance(source, Model):
        source.save(stage)
        return
    folder = find(source)
    for name in FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, stage / name)


@lru_cache
def _downloaded(name: str) -> Path:
    """Asked once in a process: the batch commands look a model up for every file."""
    repo_id, at, revision = name.partition("@")
    if at and not revision:
        raise ValueError(f"hf-hub:{name} names no revision after the @: write one, or drop the @")
    with _reported(name):
        folder = huggingface_hub.snapshot_download(
            repo_id,
            revision=revision or None,
            allow_patterns=list(FILES),
            library_name=LIBRARY,
            library_version=__version__,
        )
    if not (Path(folder) / WEIGHTS).is_file():
        raise FileNotFoundError(f"hf-hub:{name} holds no model of this library: it has no {WEIGHTS}")
    return Path(folder)


@contextmanager
def _reported(name: str) -> Iterator[None]:
    """What the hub's client raises, as a sentence that says what to do."""
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"{name!r} is not a name that the hub allows; write owner/name ({error})") from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"the hub has no {name!r} that you may see: check the name, or log in by hf auth login if it is private"
        ) from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(f"{name!r} has no such revision on the hub") from None
    except errors.LocalEntryNotFoundError:
        raise FileNotFoundError(
            f"{name!r} was not downloaded before, and the hub cannot be reached: check the connection"
        ) from None
    except errors.HfHubHTTPError as error:
        raise OSError(f"the hub refuses {name!r}: {one_line(error)}") from None
    except errors.LocalTokenNotFoundError:
        raise OSError("you are not logged in to the hub: run hf auth login, or give a token") from None
