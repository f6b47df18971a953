"""A process that tries out constraints: each trial is a fork that the kernel ends at its deadline.

Run as `python -m app.engine.grammar_host`. The first line on stdin is its job, each further one a
trial; on stdout there is one line for each. It ends with its stdin.

A compiler that loops, eats memory or runs off its stack takes a fork with it and nothing else.
Forking is cheap because this process has the compiler and the tokenizer loaded, and safe because
it has one thread.
"""

import faulthandler
import json
import os
import re
import resource
import select
import signal
import sys
from pathlib import Path
from typing import Any

import xgrammar

from app.core.grammar_trial import Job, Trial, Verdict
from app.engine.crashes import end_at_once_on_crash
from app.engine.token_mask import first_allowed

_NICE = 10  # the engine and the event loop come first
_MAX_BYTES = 2 << 30
_POLL_S = 0.005
_NUM_STEPS = 32
# Where in the compiler's sources an error arose, and what was asked there.
_ORIGIN = re.compile(r"^(?:\[[\d:]*\]\s*\S*?:\d+:\s*)?(?:Check failed: \(.*?\) is false: )?")


class Host:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.tokenizer = xgrammar.TokenizerInfo.deserialize_json(job.tokenizer)
        self.compiler = xgrammar.GrammarCompiler(self.tokenizer, max_threads=1, cache_enabled=False)
        self.running: dict[int, int] = {}

    def serve(self, unread: bytes) -> None:
        """Until stdin ends. `unread`: what was read behind the job's line."""
        while True:
            *lines, unread = unread.split(b"\n")
            for line in lines:
                self.start(Trial(**json.loads(line)))
            self.reap()
            readable, _, _ = select.select([0], [], [], _POLL_S if self.running else None)
            if readable:
                more = os.read(0, 1 << 16)
                if not more:
                    return
                unread += more

    def start(self, trial: Trial) -> None:
        pid = os.fork()
        if pid:
            self.running[pid] = trial.number
            return
        faulthandler.disable()  # a trial that crashes is refused; it is no fault of the service
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self.job.deadline_s)
        bound_memory()
        try:
            say(self.judge(trial))
        finally:
            os._exit(0)

    def judge(self, trial: Trial) -> Verdict:
        for index, (kind, text) in enumerate(trial.constraints):
            try:
                self.compile(kind, text)
            except Exception as error:  # noqa: BLE001 (whatever a foreign compiler raises)
                return Verdict(trial.number, index, _ORIGIN.sub("", str(error)).strip()[:300])
        return Verdict(trial.number)

    def compile(self, kind: str, text: str) -> None:
        """As vLLM's backend does. Raises whatever the compiler does."""
        if kind == "json":
            compiled = self.compiler.compile_json_schema(text)
        elif kind == "regex":
            compiled = self.compiler.compile_regex(text)
        elif kind == "structural_tag":
            compiled = self.compiler.compile_structural_tag(text)
        elif "::=" in text:
            compiled = self.compiler.compile_grammar(text)
        else:
            compiled = self.compiler.compile_lark(text)
        self.walk(xgrammar.GrammarMatcher(compiled))

    def walk(self, matcher: Any) -> None:
        """Take the first steps of an answer. Raises ValueError where no token may follow: a grammar
        like `root ::= root "a"` compiles, and leaves the sampler nothing to choose from."""
        mask = xgrammar.allocate_token_bitmask(1, self.tokenizer.vocab_size)
        for _ in range(_NUM_STEPS):
            matcher.fill_next_token_bitmask(mask, 0)
            token = first_allowed(mask[0].tolist())
            if token is None:
                raise ValueError("it allows no answer")
            matcher.accept_token(token)
            if matcher.is_terminated():
                return

    def reap(self) -> None:
        """Say of each fork that was ended by a signal that it was; the others have spoken."""
        for pid, number in list(self.running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            del self.running[pid]
            if os.WIFSIGNALED(status):
                say(Verdict(number, signal=os.WTERMSIG(status)))


def bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    most = pages * resource.getpagesize() + _MAX_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def say(verdict: Verdict) -> None:
    """One line in one write, which forks cannot mix up as long as it is shorter than a page."""
    os.write(1, json.dumps(vars(verdict)).encode() + b"\n")


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the parent ends us by stdin
    end_at_once_on_crash()
    os.nice(_NICE)
    read = b""
    while b"\n" not in read:
        more: bytes = os.read(0, 1 << 20)
        if not more:
            sys.exit(0)
        read += more
    line, _, rest = read.partition(b"\n")
    given: dict[str, Any] = json.loads(line)
    Host(Job(**given)).serve(rest)


if __name__ == "__main__":
    main()
