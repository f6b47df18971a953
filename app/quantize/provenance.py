"""Where a quantized checkpoint comes from, so that it can be made again and be told apart."""

import json
import platform
import resource
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.core.checkpoint import digest_checkpoint, digest_shards
from app.quantize.calibration import Samples
from app.quantize.job import Job

FILE = "provenance.json"
PACKAGES = ("llmcompressor", "compressed-tensors", "torch", "transformers")


def write_provenance(
    job: Job, source: Path, revision: str | None, out: Path, samples: Samples | None, seconds: float
) -> None:
    facts = {
        "recipe": {
            "name": job.recipe.name,
            "modifiers": job.recipe.modifiers(job.smoothing_strength),
            "source": job.recipe.source,
        },
        "model": {
            "name": job.model,
            "revision": revision,
            "digest": digest_checkpoint(source),
            "files": digest_shards(source),
        },
        "calibration": describe_calibration(job, samples),
        "seed": job.seed,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "cost": {"seconds": round(seconds, 1), "peak_memory_bytes": peak_memory_bytes()},
        "digest": digest_checkpoint(out),
        "files": digest_shards(out),
    }
    (out / FILE).write_text(json.dumps(facts, indent=2) + "\n")


def describe_calibration(job: Job, samples: Samples | None) -> dict[str, Any] | None:
    if job.calibration is None or samples is None:
        return None
    return {
        "source": job.calibration.source,
        "samples": len(samples.token_ids),
        "tokens": samples.num_tokens,
        "max_seq_length": job.calibration.max_seq_length,
        "tokens_sha256": samples.digest,
    }


def peak_memory_bytes() -> int:
    """The most memory that this process ever held (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
