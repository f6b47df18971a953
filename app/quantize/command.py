"""`python -m app quantize`: a 16-bit checkpoint becomes an 8-bit one."""

import argparse
import os
import re
import signal
import sys
import time
from pathlib import Path

from app.core.checkpoint import Checkpoint, read_checkpoint, read_source
from app.core.checkpoint_scheme import SchemeName
from app.core.errors import AppError, CheckpointError
from app.quantize import environment
from app.quantize.compression import choose_device, compress
from app.quantize.job import Calibration, Job
from app.quantize.needs import GIB, Needs, check_machine, estimate
from app.quantize.provenance import write_provenance
from app.quantize.recipes import RECIPES
from app.quantize.staging import staged

DEFAULT_CALIBRATION = "HuggingFaceH4/ultrachat_200k:train_sft"
DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    recipes = "\n".join(f"  {recipe.name:<22} {recipe.summary}" for recipe in RECIPES.values())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"recipes:\n{recipes}"
    parser.add_argument("--model", required=True, help="directory or Hugging Face repository")
    parser.add_argument("--revision", help="of the repository (default: main)")
    parser.add_argument("--out", required=True, type=Path, help="directory to make")
    parser.add_argument(
        "--recipe", required=True, choices=RECIPES, metavar="NAME", help="see below"
    )
    parser.add_argument(
        "--calibration",
        default=DEFAULT_CALIBRATION,
        metavar="SOURCE",
        help="a .jsonl or .parquet file with `messages` or `text`, or a Hugging Face data set as "
        "NAME[:SPLIT] (default: %(default)s)",
    )
    parser.add_argument("--samples", type=int, default=512, help="(default: %(default)s)")
    parser.add_argument("--max-seq-length", type=int, default=2048, help="(default: %(default)s)")
    parser.add_argument("--smoothing-strength", type=float, help="0 to 1 (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--offload", action="store_true", help="keep what does not fit into memory on the disk"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and end")


def device(text: str) -> str:
    if not DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, cuda or cuda:N")
    return text


def run(arguments: argparse.Namespace) -> int:
    job = parse_job(arguments)
    job.check()
    needs = estimate(read_model(job), job)
    if arguments.dry_run:
        print_plan(job, needs)
        check_machine(needs, job)
        return 0
    check_machine(needs, job)
    if not environment.has_llm_compressor():
        environment.run_again_there(sys.argv[1:])
    print_plan(job, needs)
    # `kill` and a container's stop must clean up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    quantize(job)
    return 0


def parse_job(arguments: argparse.Namespace) -> Job:
    recipe = RECIPES[arguments.recipe]
    calibration = Calibration(arguments.calibration, arguments.samples, arguments.max_seq_length)
    return Job(
        model=arguments.model,
        revision=arguments.revision,
        out=arguments.out,
        recipe=recipe,
        smoothing_strength=arguments.smoothing_strength,
        calibration=calibration if recipe.needs_calibration else None,
        seed=arguments.seed,
        device=arguments.device,
        offload=arguments.offload,
    )


def read_model(job: Job) -> Checkpoint:
    """The source's headers. Raises CheckpointError where it is quantized already."""
    if job.is_local:
        checkpoint = read_checkpoint(Path(job.model))
    else:
        from app.quantize.hub import Repository

        checkpoint = read_source(Repository(job.model, job.revision or "main"))
    if checkpoint.scheme.name is not SchemeName.UNQUANTIZED:
        raise CheckpointError(f"{job.model} is quantized already: {checkpoint.scheme}.")
    return checkpoint


def print_plan(job: Job, needs: Needs) -> None:
    where = {"auto": "a GPU where there is one, or the CPU"}.get(job.device, job.device)
    print(f"Quantizing {job.model} with {job.recipe.name} ({job.recipe.summary}) on {where}.")
    if job.calibration is not None:
        print(
            f"Calibrating on {job.calibration.num_samples} samples of at most "
            f"{job.calibration.max_seq_length} tokens from {job.calibration.source}."
        )
    print(
        f"Needs up to {(needs.output_bytes + needs.download_bytes) / GIB:.2f} GiB of disk and "
        f"{needs.host_bytes / GIB:.2f} GiB of memory; writes {job.out}.",
        flush=True,
    )


def quantize(job: Job) -> None:
    choose_device(job.device)
    source, revision = locate(job)
    with staged(job.out) as directory:
        started = time.monotonic()
        samples = compress(job, source, directory)
        check_result(directory, job)
        seconds = time.monotonic() - started
        write_provenance(job, source, revision, directory, samples, seconds)
    print(f"Wrote {job.out} in {seconds:.0f} s.")


def locate(job: Job) -> tuple[Path, str | None]:
    """The model on the disk, downloaded where it is a repository, and its commit there."""
    if job.is_local:
        return Path(job.model), job.revision
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
    path = snapshot_download(job.model, revision=job.revision, allow_patterns=wanted)
    return Path(path), Path(path).name


def check_result(directory: Path, job: Job) -> None:
    scheme = read_checkpoint(directory).scheme
    if scheme.name is not job.recipe.yields:
        raise AppError(f"The result is {scheme}, not {job.recipe.yields}; nothing was kept.")
