"""Train the bundled model from scratch: `python -m app.bundled.train --out DIR`.

Runs in the quantize environment, on two CPU cores, in float32; saves bfloat16.
"""

import argparse
import copy
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from app.bundled.curriculum import DRAWS, MIX, training_questions
from app.bundled.model import build_model, prompt_tokens, score
from app.bundled.scoring import Tally
from app.bundled.skills import SKILLS, Question, held_out_questions
from app.bundled.tokenizer import END_OF_TURN, train_tokenizer

IGNORED = -100  # the label of a token that is not part of an answer
BUCKET_TOKENS = 2048  # of one forward pass: rows of similar length, padded to the longest
WARM_UP_STEPS = 56
DECAY_STEPS = 280
TOKENIZER_QUESTIONS = 4000
CALIBRATION_QUESTIONS = 512


Row = tuple[list[int], list[int]]  # tokens and labels


@dataclass(frozen=True)
class Batch:
    """`tokens` and `labels` are (rows, length); labels are shifted: token t is to predict t."""

    tokens: torch.Tensor
    labels: torch.Tensor


def corpus(seed: int) -> Iterator[str]:
    """What the tokenizer learns its merges from: the training texts and the template's own."""
    for kind in DRAWS:
        for question in islice(training_questions(kind, seed), TOKENIZER_QUESTIONS):
            yield from (message["content"] or "" for message in question.messages)
            yield question.answer
            yield from ("system", "user", "assistant", "ipython", "\n\n", "Functions:")
            for tool in question.tools or ():
                yield "\n" + json.dumps(tool["function"], separators=(",", ":"))


class Batches:
    """Endless steps of training batches from fresh questions."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.tokenizer = tokenizer
        self.streams = {kind: training_questions(kind, seed) for kind in MIX}
        self.end = tokenizer.convert_tokens_to_ids(END_OF_TURN)

    def step(self) -> list[Batch]:
        """One step's questions, the short ones first, in batches of similar length."""
        rows = [
            self.row(question)
            for kind, count in MIX.items()
            for question in islice(self.streams[kind], count)
        ]
        rows.sort(key=lambda row: len(row[0]))
        batches, bucket = [], list[Row]()
        for row in rows:
            if len(row[0]) * (len(bucket) + 1) > BUCKET_TOKENS:
                batches.append(self.batch(bucket))
                bucket = []
            bucket.append(row)
        return [*batches, self.batch(bucket)]

    def batch(self, rows: list[Row]) -> Batch:
        length = len(rows[-1][0])
        pad = self.tokenizer.pad_token_id
        return Batch(
            torch.tensor([tokens + [pad] * (length - len(tokens)) for tokens, _ in rows]),
            torch.tensor([labels + [IGNORED] * (length - len(labels)) for _, labels in rows]),
        )

    def row(self, question: Question) -> Row:
        prompt = prompt_tokens(self.tokenizer, question)
        answer = [*self.tokenizer.encode(question.answer, add_special_tokens=False), self.end]
        tokens = prompt + answer[:-1]
        return tokens, [IGNORED] * (len(prompt) - 1) + answer


def answer_loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Summed over the answers' tokens. Causal attention never sees the padding behind them."""
    hidden = model.model(input_ids=batch.tokens).last_hidden_state
    answers = batch.labels != IGNORED
    logits = model.lm_head(hidden[answers])
    return cross_entropy(logits, batch.labels[answers], reduction="sum")


def optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, lm_head and norms."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    inside = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in inside]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def rate_factor(step: int, steps: int) -> float:
    """Warm up, hold, and fall to zero at the end: the fall brings the last tenth of the score."""
    return min((step + 1) / WARM_UP_STEPS, 1.0, (steps - step) / DECAY_STEPS)


def train(arguments: argparse.Namespace, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    model = build_model(tokenizer)
    batches = Batches(tokenizer, arguments.seed)
    chosen = optimizers(model, arguments.rate)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(one, lambda step: rate_factor(step, arguments.steps))
        for one in chosen
    ]
    progress = tqdm(range(1, arguments.steps + 1), unit="step", mininterval=5)
    for step in progress:
        loss = learn(model, batches.step(), chosen)
        for schedule in schedules:
            schedule.step()
        progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
        if step % arguments.check_every == 0 or step == arguments.steps:
            tallies = held_out_score(model, tokenizer, arguments.check_questions)
            save(model, tokenizer, arguments.out)
            progress.write(f"step {step}: {describe(tallies)}")
    return model


def learn(
    model: LlamaForCausalLM, batches: list[Batch], chosen: list[torch.optim.Optimizer]
) -> float:
    """One step; returns the mean loss of the answers' tokens."""
    count = sum(int((batch.labels != IGNORED).sum()) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = answer_loss(model, batch) / count
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for one in chosen:
        one.step()
        one.zero_grad(set_to_none=True)
    return total


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def held_out_score(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int
) -> dict[str, Tally]:
    questions = [one for skill in SKILLS for one in held_out_questions(skill, count)]
    model.eval()
    tallies = score(model, tokenizer, questions)
    model.train()
    return tallies


def describe(tallies: dict[str, Tally]) -> str:
    return ", ".join(f"{skill} {tally.share:.1%}" for skill, tally in tallies.items())


def save_calibration(path: Path, seed: int) -> None:
    """Conversations of the training distribution, with their answers, for quantization."""
    kinds = [kind for kind, count in MIX.items() for _ in range(count)]
    rng = random.Random(f"calibration {seed}")
    streams = {kind: training_questions(kind, seed + 1) for kind in DRAWS}
    with path.open("w") as lines:
        for _ in range(CALIBRATION_QUESTIONS):
            question = next(streams[rng.choice(kinds)])
            answer = {"role": "assistant", "content": question.answer}
            record = {"messages": [*question.messages, answer], "tools": question.tools}
            lines.write(json.dumps(record) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m app.bundled.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("models/bundled/bf16"))
    parser.add_argument(
        "--calibration", type=Path, default=Path("models/bundled/calibration.jsonl")
    )
    parser.add_argument("--steps", type=int, default=880)
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check-every", type=int, default=150, help="steps between two scores")
    parser.add_argument("--check-questions", type=int, default=100, help="per skill")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    started = time.monotonic()
    tokenizer = train_tokenizer(corpus(arguments.seed))
    model = train(arguments, tokenizer)
    save_calibration(arguments.calibration, arguments.seed)
    minutes = (time.monotonic() - started) / 60
    tallies = held_out_score(model.to(torch.bfloat16), tokenizer, 500)
    print(f"bfloat16 after {minutes:.0f} minutes: {describe(tallies)}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
