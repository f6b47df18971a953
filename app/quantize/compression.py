"""The quantization itself: llm-compressor run over a model, and the result written."""

import os
import random
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from app.core.errors import AppError
from app.quantize.calibration import Samples, load_samples
from app.quantize.job import Job

# Written anew by us or by transformers; everything else small is the source's own.
NOT_COPIED = {"config.json", "generation_config.json", "README.md", "recipe.yaml"}
REPORTS = {"quality.json", "quality.html", "provenance.json"}
COPIED_SUFFIXES = {".json", ".jinja", ".model", ".txt", ".tiktoken"}


def choose_device(device: str) -> None:
    """Show torch only the device that was asked for. Must run before torch is imported."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif device.startswith("cuda:"):
        os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")


def compress(job: Job, source: Path, out: Path) -> Samples | None:
    """Quantize the model at `source` into `out`; the calibration samples that were used."""
    import torch
    from llmcompressor import oneshot
    from transformers import AutoTokenizer

    if job.device.startswith("cuda") and not torch.cuda.is_available():
        raise AppError(f"--device {job.device} was asked for, and torch sees no CUDA GPU.")
    random.seed(job.seed)
    torch.manual_seed(job.seed)
    tokenizer = AutoTokenizer.from_pretrained(source)
    samples = None
    if job.calibration is not None:
        samples = load_samples(job.calibration, tokenizer, job.seed)
    model = load_model(source, job.offload, out / "offload")
    oneshot(
        model=model,
        processor=tokenizer,
        recipe=build_modifiers(job),
        dataset=batches(samples) if samples else None,
        pipeline="sequential" if samples else "datafree",
        shuffle_calibration_samples=False,
    )
    model.save_pretrained(out, save_compressed=True)
    shutil.rmtree(out / "offload", ignore_errors=True)
    copy_companions(source, out)
    return samples


def load_model(source: Path, offload: bool, offload_folder: Path) -> Any:
    from llmcompressor.utils import load_context
    from transformers import AutoModelForCausalLM

    where: dict[str, Any] = {}
    if offload:
        where = {"device_map": "auto_offload", "offload_folder": str(offload_folder)}
    with load_context() if offload else nullcontext():
        return AutoModelForCausalLM.from_pretrained(source, dtype="auto", **where)


def build_modifiers(job: Job) -> list[Any]:
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    classes = {
        kind.__name__: kind for kind in (SmoothQuantModifier, GPTQModifier, QuantizationModifier)
    }
    modifiers = job.recipe.modifiers(job.smoothing_strength)
    return [classes[name](**arguments) for name, arguments in modifiers.items()]


def batches(samples: Samples) -> Any:
    """One sample at a time: no padding, so that no padding is calibrated on."""
    import torch
    from torch.utils.data import DataLoader

    def as_batch(rows: list[list[int]]) -> dict[str, Any]:
        token_ids = torch.tensor(rows)
        return {"input_ids": token_ids, "attention_mask": torch.ones_like(token_ids)}

    return DataLoader(samples.token_ids, batch_size=1, collate_fn=as_batch)


def copy_companions(source: Path, out: Path) -> None:
    """The tokenizer's files and the chat template, byte for byte."""
    for path in sorted(source.iterdir()):
        is_companion = path.suffix in COPIED_SUFFIXES and ".index." not in path.name
        if path.is_file() and is_companion and path.name not in NOT_COPIED | REPORTS:
            shutil.copyfile(path, out / path.name)
