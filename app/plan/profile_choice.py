"""What `profile: auto` means on this machine."""

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import yaml

from app.core.gpus import BUNDLED_PROFILE, choose_profile
from app.plan.gpu_detection import detect_gpus

PROFILES = Path(__file__).parents[2] / "config" / "profiles"
HUB_TIMEOUT_S = 5.0


def choose_for_machine() -> tuple[str, str]:
    """The profile's name, and a sentence where it is not what the machine's GPU is for."""
    available = {path.stem for path in PROFILES.glob("*.yaml")}
    choice = choose_profile(detect_gpus().gpus, available)
    if choice.reason:
        return choice.profile, f"{choice.reason} Serving the bundled model."
    if sentence := missing_model(choice.profile, is_hub_reachable):
        return BUNDLED_PROFILE, f"{sentence} Serving the bundled model."
    return choice.profile, ""


def missing_model(profile: str, is_reachable: Callable[[], bool]) -> str:
    """Why the model of a profile cannot be had; empty where it can."""
    settings = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text(encoding="utf-8"))
    model = settings["model"]["path"]
    if Path(model).is_dir() or cache_folder(model).is_dir() or is_reachable():
        return ""
    return f"The model hub cannot be reached, and {model} is not on this machine."


def cache_folder(model: str) -> Path:
    """Where huggingface_hub keeps a model that it has downloaded."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return (
        Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{model.replace('/', '--')}"
    )


def is_hub_reachable() -> bool:
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        httpx.head(endpoint, timeout=HUB_TIMEOUT_S, follow_redirects=True)
    except httpx.HTTPError:
        return False
    return True
