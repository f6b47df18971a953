"""The limits that config/default.yaml ships."""

from app.settings.loading import Sources, load_settings

DEFAULT_LIMITS = load_settings(
    Sources(environ={}, assignments=["profile=none"]), lambda: ("none", "")
).settings.limits.of_request
