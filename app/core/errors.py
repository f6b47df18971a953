"""Errors that people are meant to read: one sentence, what is wrong and how to mend it."""


class AppError(Exception):
    """An expected failure. The command line prints the sentence and ends with `exit_code`."""

    exit_code = 2

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class SettingsError(AppError):
    """The configuration cannot be used; the sentence names the key."""


class CheckpointError(AppError):
    """A checkpoint is damaged, hostile, or not what it says it is."""

    exit_code = 3


class StartError(AppError):
    """The service refuses to start, or cannot go on."""

    exit_code = 4
