"""Models in folders and on the Hugging Face Hub, each with a model card."""

from __future__ import annotations

import abc
import os
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Self

from streamrde.disk import replace_file
from streamrde.errors import BundleError, MissingExtraError, ParameterError
from streamrde.inference.bundle import Bundle, load
from streamrde.inference.card import Section, sections
from streamrde.nearest import listed
from streamrde.windowing.policies import WindowPolicy

_MODEL, _CARD = "model.safetensors", "README.md"
_MESSAGE = "Upload a streamrde model"
_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
# What Markdown and HTML take as markup. Names of channels and classes come from files and may hold any of it.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


def save_pretrained(bundle: Bundle, folder: str | os.PathLike[str], *, card: bool = True) -> None:
    """Write a model and its card into a folder: model.safetensors and README.md.

    The card says what is in the model's header: channels, windows, outputs, how it was trained, and its figures.

    Args:
        bundle: the model, from `fit`, `train` or `load`.
        folder: where to. It is made if it is not there, and its files of these two names are replaced.
        card: write README.md. False keeps one that was edited.
    """
    _write(bundle, Path(folder), Path(folder).resolve().name, card=card)


def from_pretrained(
    folder_or_repo: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    policies: Sequence[type[WindowPolicy]] = (),
) -> Bundle:
    """Read a model from a folder that `save_pretrained` wrote, or from a repository of the Hugging Face Hub.

    A folder is looked for first. The Hub needs the extra `hub`. A model is data: no code of a repository runs.

    Args:
        folder_or_repo: a folder, or a repository such as "owner/name".
        revision: branch, tag or commit of the repository. None: its main branch.
        token: access token of the Hub. None: that of `hf auth login`, or of the variable HF_TOKEN.
        policies: classes of window policies that are not built in, as of `load`.
    Raises:
        BundleError: there is neither such a folder nor such a repository, or what is there is no model.
        ParameterError: a folder with a revision.
        MissingExtraError: the name of a repository without the extra `hub`.
    """
    name = os.fspath(folder_or_repo)
    if Path(name).exists() or not isinstance(folder_or_repo, str) or not _REPOSITORY.fullmatch(name):
        if revision is not None:
            raise ParameterError(f"revision={revision!r}: {name!r} is a folder, and only repositories have revisions")
        if not Path(name).is_dir():
            raise BundleError(f"{name}: {_no_folder(Path(name))}")
        return load(Path(name) / _MODEL, policies=policies)
    hub = _hub(f"from_pretrained({name!r}), which is no folder here,")
    try:
        path = hub.hf_hub_download(name, _MODEL, revision=revision, token=token, library_name="streamrde")
    except (hub.errors.HFValidationError, OSError) as error:
        raise BundleError(
            f"{name}: no folder here, and not read from the Hub; check the name, the revision and the token: {error}"
        ) from error
    return load(path, policies=policies)


def push_to_hub(
    bundle: Bundle,
    repo: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    message: str = _MESSAGE,
    card: bool = True,
) -> str:
    """Upload a model and its card to a repository of the Hugging Face Hub, as one commit. Needs the extra `hub`.

    Args:
        bundle: the model, from `fit`, `train` or `load`.
        repo: the repository, such as "owner/name". It is made if it is not there.
        private: who may see a repository that is made. None: as the owner's settings say.
        token: access token of the Hub. None: that of `hf auth login`, or of the variable HF_TOKEN.
        message: of the commit.
        card: upload README.md. False keeps one that was edited there.
    Returns:
        Address of the commit.
    Raises:
        MissingExtraError: the extra `hub` is not installed.
        OSError: the Hub refuses, with its reason.
    """
    hub = _hub("push_to_hub")
    api = hub.HfApi(token=token, library_name="streamrde")
    made = api.create_repo(repo, private=private, exist_ok=True).repo_id
    with TemporaryDirectory() as folder:
        _write(bundle, Path(folder), made, card=card)
        commit: Any = api.upload_folder(repo_id=made, folder_path=folder, commit_message=message)
    return str(commit.commit_url)


class Pretrained(abc.ABC):
    """The three functions above as methods of a model that can be trained, such as `streamrde.NeuralRDE`."""

    @abc.abstractmethod
    def to_bundle(self) -> Bundle:
        """Return the model as it is saved."""

    @classmethod
    @abc.abstractmethod
    def from_bundle(cls, bundle: Bundle, *, field: Any = None, initial: Any = None, readout: Any = None) -> Self:
        """Make the model of a bundle, with the modules that are not in its file."""

    def save_pretrained(self, folder: str | os.PathLike[str], *, card: bool = True) -> None:
        """Write the model and its card into a folder. Arguments are those of `hub.save_pretrained`."""
        save_pretrained(self.to_bundle(), folder, card=card)

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        message: str = _MESSAGE,
        card: bool = True,
    ) -> str:
        """Upload the model and its card. Arguments, result and errors are those of `hub.push_to_hub`."""
        return push_to_hub(self.to_bundle(), repo, private=private, token=token, message=message, card=card)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_repo: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | None = None,
        policies: Sequence[type[WindowPolicy]] = (),
        field: Any = None,
        initial: Any = None,
        readout: Any = None,
    ) -> Self:
        """Read a model, to train it further. Arguments and errors are those of `hub.from_pretrained`.

        Args:
            field, initial, readout: the torch modules that are not in the file, as of `from_bundle`.
        """
        bundle = from_pretrained(folder_or_repo, revision=revision, token=token, policies=policies)
        return cls.from_bundle(bundle, field=field, initial=initial, readout=readout)


def model_card(bundle: Bundle, name: str) -> str:
    """Return the card of a model as Markdown with the metadata that the Hub reads.

    Args:
        bundle: the model.
        name: of the model: a heading, and what the example on the card loads.
    """
    header = bundle.header
    tasks = sorted({f"time-series-{head.task}" for head in header.parts})
    tags = ["streamrde", "time-series", "streaming", "log-signature", *tasks]
    outputs = listed([text for head in header.parts for text in head.classes or head.labels])
    channels = listed([channel.name for channel in header.channels])
    lines = [
        "---",
        "library_name: streamrde",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
        "",
        f"# {_plain(name)}",
        "",
        f"A streaming model of time series. It reads {_plain(channels)}"
        + (f", and predicts {_plain(outputs)}." if outputs else "."),
        "",
        "```python",
        "import streamrde as sr",
        "from streamrde.hub import from_pretrained",
        "",
        f"bundle = from_pretrained({name!r})",
        "fleet = sr.Fleet(bundle)  # fleet.push(streams, t, x) predicts after each window",
        "```",
    ]
    for section in sections(bundle):
        lines += ["", f"## {section.title.capitalize()}", "", *_table(section)]
    return "\n".join(lines) + "\n"


def _write(bundle: Bundle, folder: Path, name: str, *, card: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    bundle.save(folder / _MODEL)
    if card:
        replace_file(folder / _CARD, model_card(bundle, name).encode())


def _table(section: Section) -> list[str]:
    width = len(section.rows[0])
    columns = section.columns or ("",) * width
    rows = [columns, ("---",) * width, *(tuple(map(_plain, row)) for row in section.rows)]
    return [f"| {' | '.join(row)} |" for row in rows]


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _no_folder(path: Path) -> str:
    if path.is_file():
        return "a file; streamrde.load reads a model's file, and from_pretrained its folder"
    return "no such folder, and not the name of a repository, which is like owner/name"


def _hub(feature: str) -> ModuleType:
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise MissingExtraError(feature, "hub") from None
    return huggingface_hub
