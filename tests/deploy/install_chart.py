"""Runs in `.venv-deploy`: lint and install a chart with the real Helm library.

stdin: {"chart": path, "kubernetes": version, "releases": [{"name", "values"}, ...]}
stdout: for each release {"lint": [...]} and {"error": text} or {"objects", "hooks", "notes"}.

The installation goes to an API that only records (recording_api.py): what Helm posted is what a
cluster would have got.
"""

import asyncio
import base64
import gzip
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import helm_sdkpy  # type: ignore[import-not-found]
import yaml
from recording_api import RecordingApi, serve_recording_api  # type: ignore[import-not-found]

INFORMATION = 1  # of Helm's severities; above are warnings and errors
RELEASE = re.compile(rb"H4sI[A-Za-z0-9+/]+=*")


def main() -> None:
    request = json.load(sys.stdin)
    # Helm's logs go to stdout's file descriptor; the answer must be alone there.
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with serve_recording_api(request["kubernetes"]) as api:
        answers = [check(api, request["chart"], release) for release in request["releases"]]
    json.dump(answers, answer_to)
    answer_to.close()


def check(api: RecordingApi, chart: str, release: dict[str, Any]) -> dict[str, Any]:
    api.forget()
    found = {"lint": lint(api, chart, release["values"])}
    try:
        asyncio.run(install(api, chart, release))
    except helm_sdkpy.HelmError as error:
        return found | {"error": str(error)}
    return found | read_release(api)


def lint(api: RecordingApi, chart: str, values: dict[str, Any]) -> list[str]:
    """The files with warnings or errors; the library keeps what they are to itself.

    It lints with the chart's own values: of a copy, whose values are the merged ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(chart).name
        shutil.copytree(chart, copy)
        path = copy / "values.yaml"
        merged = merge(yaml.safe_load(path.read_text()), values)
        path.write_text(yaml.safe_dump(merged))
        configuration = helm_sdkpy.Configuration(kubeconfig=api.kubeconfig)
        found = asyncio.run(helm_sdkpy.Lint(configuration).run(str(copy)))
    return [each["Path"] for each in found["Messages"] if each["Severity"] > INFORMATION]


def merge(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{key: merge(base.get(key), value) for key, value in over.items()}}


async def install(api: RecordingApi, chart: str, release: dict[str, Any]) -> None:
    configuration = helm_sdkpy.Configuration(namespace="models", kubeconfig=api.kubeconfig)
    await helm_sdkpy.Install(configuration).run(
        release["name"], chart, release["values"], wait=False, timeout=300
    )


def read_release(api: RecordingApi) -> dict[str, Any]:
    """Helm keeps its record gzipped in base64; hooks (`helm test`) are only there."""
    found = RELEASE.search(api.release)
    assert found, "Helm stored no release"
    record = json.loads(gzip.decompress(base64.b64decode(found[0])))
    return {
        "objects": api.created,
        "hooks": [yaml.safe_load(hook["manifest"]) for hook in record.get("hooks") or []],
        "notes": record["info"].get("notes", ""),
    }


if __name__ == "__main__":
    main()
