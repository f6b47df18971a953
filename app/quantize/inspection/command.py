"""`python -m app inspect`: what a checkpoint is, from its headers alone."""

import argparse
import json
from pathlib import Path

from app.core.checkpoint import Directory, Source
from app.core.errors import CheckpointError
from app.quantize.inspection.report import inspect
from app.quantize.inspection.text import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="directory or Hugging Face repository")
    parser.add_argument("--revision", default="main", help="of the repository (default: main)")
    parser.add_argument("--json", action="store_true", help="every layer, for machines")


def run(arguments: argparse.Namespace) -> int:
    """3, as for any CheckpointError, where the report holds an error."""
    report = inspect(open_source(arguments.model, arguments.revision))
    print(json.dumps(report.as_json(), indent=2) if arguments.json else render(report))
    return 0 if report.is_sound else CheckpointError.exit_code


def open_source(model: str, revision: str) -> Source:
    if Path(model).is_dir():
        return Directory(Path(model))
    from app.quantize.hub import Repository

    return Repository(model, revision)
