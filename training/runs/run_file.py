"""The file of a run: which steps there are, with their settings. What cannot be is refused before anything is done."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mesh.errors import InvalidInput
from mesh.settings import problems
from training.finetuning.settings import FinetuneSettings
from training.pretraining.settings import PretrainSettings
from training.toml_files import read_toml

_MADE = Path("made-by-the-step-before")
"""Stands for what a step is given by the one before it."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PreparePart(_Part):
    """[prepare]: cleans and deduplicates what was collected."""

    languages: tuple[str, ...] = Field(default=(), description="ISO 639-1; none: all.")
    quality: bool = Field(default=True, description="The rules of Gopher, C4 and FineWeb.")
    personal: bool = Field(default=True, description="Masks what tells of persons.")
    near_duplicates: bool = Field(default=True, description="Drops them, by MinHash.")
    evaluation_sets: tuple[Path, ...] = Field(
        default=(), description="Drops texts that hold their questions or answers."
    )
    workers: int = Field(default=1, ge=1)


class PackPart(_Part):
    """[pack]: token shards."""

    validation_share: float = Field(default=0.01, ge=0, le=0.5, description="Of the documents.")


class NewTokenizerPart(_Part):
    """[new_tokenizer]: made of the corpus."""

    vocabulary: int = Field(ge=300, description="Tokens, special ones included.")


class CitedPart(_Part):
    """[cited]: rows that teach to cite and to decline."""

    sets: tuple[Path, ...] = Field(min_length=1, description="Labelled sets.")
    part: Literal["calibration", "all"] = "calibration"
    sources: int = Field(default=3, ge=1, le=20)
    rows: int | None = Field(default=None, ge=1, description="At most so many a set.")


class ExportPart(_Part):
    """[export]: forms of the model, registered for the generator."""

    openvino: tuple[Literal["int8", "int4"], ...] = ()
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    triton: bool = Field(default=False, description="Also a Triton repository for TensorRT-LLM.")
    licence: str = Field(default="other", description="SPDX identifier, for the model card.")


class RunFile(_Part):
    """A run. Paths in it are relative to the file."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="Of the run, and of the model that it exports."
    )
    folder: Path = Field(default=Path("runs"), description="The run's own folder is made in it.")
    corpus: tuple[Path, ...] = Field(
        default=(), description="Folders of prepared text; of collected text with [prepare]."
    )
    tokenizer: Path | None = Field(default=None, description="Folder of a tokenizer in Hugging Face's form.")
    prepare: PreparePart | None = None
    new_tokenizer: NewTokenizerPart | None = None
    pack: PackPart = PackPart()
    pretrain: PretrainSettings | None = None
    cited: CitedPart | None = None
    finetune: FinetuneSettings | None = None
    export: ExportPart | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        given = self.model_fields_set
        if self.tokenizer and self.new_tokenizer:
            raise ValueError("tokenizer and [new_tokenizer] are both set; set one of them.")
        if self.pretrain is not None and not (self.corpus and (self.tokenizer or self.new_tokenizer)):
            raise ValueError("[pretrain] needs corpus, and tokenizer or [new_tokenizer].")
        if self.new_tokenizer is not None and self.prepare is None and len(self.corpus) != 1:
            raise ValueError("[new_tokenizer] is made of one folder: name one as corpus, or have [prepare] make it.")
        if self.pretrain is None and (
            unused := sorted(given & {"corpus", "prepare", "pack", "tokenizer", "new_tokenizer"})
        ):
            raise ValueError(f"{unused[0]} is set, and there is no [pretrain] that would use it.")
        if self.cited is not None and self.finetune is None:
            raise ValueError("[cited] is set, and there is no [finetune] that would use its rows.")
        if self.finetune is None and self.pretrain is None:
            raise ValueError("there is neither [pretrain] nor [finetune]: nothing would be trained.")
        return self


def read_run(path: Path) -> RunFile:
    """InvalidInput with a line for all that is wrong; NotFound for no file, or a path in it that is not there."""
    values = read_toml(path)
    here = path.absolute().parent
    _give(values, "pretrain", "data", str(_MADE))
    if "pretrain" in values:
        _give(values, "finetune", "model", str(_MADE))
    if "cited" in values:
        _give(values, "finetune", "data", [str(_MADE)])
    try:
        run = RunFile(**values)
    except ValidationError as error:
        raise InvalidInput(f"{path}: {problems(error)}") from error
    return _placed(run, here)


def _give(values: dict[str, Any], part: str, name: str, value: Any) -> None:
    """What the run itself provides must not stand in the file; rows may stand beside those that are made."""
    section = values.get(part)
    if not isinstance(section, dict):
        return
    if name in section and name != "data":
        raise InvalidInput(f"[{part}] sets {name}, which the step before it makes. Leave it out.")
    if part == "pretrain" and name in section:
        raise InvalidInput("[pretrain] sets data, which is made of corpus and tokenizer. Leave it out.")
    if name in section:
        value = [*value, *section[name]]
    section[name] = value


def _placed(run: RunFile, here: Path) -> RunFile:
    """With all paths absolute. InvalidInput for one that is not there."""
    changes: dict[str, Any] = {"folder": here / run.folder, "corpus": tuple(here / path for path in run.corpus)}
    wanted = list(changes["corpus"])
    if run.tokenizer is not None:
        changes["tokenizer"] = here / run.tokenizer
        wanted.append(changes["tokenizer"])
    if run.prepare is not None:
        kept_out = tuple(here / path for path in run.prepare.evaluation_sets)
        changes["prepare"] = run.prepare.model_copy(update={"evaluation_sets": kept_out})
        wanted += kept_out
    if run.cited is not None:
        sets = tuple(here / path for path in run.cited.sets)
        changes["cited"] = run.cited.model_copy(update={"sets": sets})
        wanted += sets
    if run.finetune is not None:
        data = tuple(path if path == _MADE else here / path for path in run.finetune.data)
        update: dict[str, Any] = {"data": data}
        if run.finetune.model != str(_MADE):
            update["model"] = str(here / run.finetune.model)
            wanted.append(Path(update["model"]))
        if run.finetune.tokenizer is not None:
            update["tokenizer"] = here / run.finetune.tokenizer
            wanted.append(update["tokenizer"])
        changes["finetune"] = run.finetune.model_copy(update=update)
        wanted += [path for path in data if path != _MADE]
    missing = [str(path) for path in wanted if not path.exists()]
    if missing:
        raise InvalidInput(f"The run needs what is not there: {', '.join(missing)}.")
    return run.model_copy(update=changes)


def is_made(path: Path | str) -> bool:
    """Whether a step before makes it."""
    return str(path) == str(_MADE)
