"""The bundled model's shape, and greedy answers from it."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app.bundled.scoring import Tally, is_exact, reply_from_text
from app.bundled.skills import Question
from app.bundled.tokenizer import (
    CONTEXT_LENGTH,
    END_OF_MESSAGE,
    END_OF_TEXT,
    END_OF_TURN,
    VOCABULARY_SIZE,
)

MAX_ANSWER_TOKENS = 32


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Llama 3.1 8B's architecture, made small: grouped queries, long-context RoPE, own lm_head."""
    ends = [END_OF_TURN, END_OF_TEXT, END_OF_MESSAGE]
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT_LENGTH,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.convert_tokens_to_ids(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    return model


def prompt_tokens(tokenizer: PreTrainedTokenizerFast, question: Question) -> list[int]:
    text = tokenizer.apply_chat_template(
        question.messages, tools=question.tools, tokenize=False, add_generation_prompt=True
    )
    tokens: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return tokens


def score(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]
) -> dict[str, Tally]:
    """Exact matches per skill of the model's greedy answers."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for question, text in zip(questions, answer(model, tokenizer, questions), strict=True):
        exact = is_exact(question, reply_from_text(text))
        tallies[question.skill] += Tally(1, int(exact))
    return dict(tallies)


def answer(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]
) -> list[str]:
    """Greedy answers. Prompts of one length share a batch, so that none is padded."""
    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for index, question in enumerate(questions):
        tokens = prompt_tokens(tokenizer, question)
        by_length[len(tokens)].append((index, tokens))
    texts = [""] * len(questions)
    for length, prompts in by_length.items():
        written = generate(model, torch.tensor([tokens for _, tokens in prompts]))[:, length:]
        decoded = tokenizer.batch_decode(written, skip_special_tokens=True)
        for (index, _), text in zip(prompts, decoded, strict=True):
            texts[index] = text
    return texts


def generate(model: LlamaForCausalLM, prompts: torch.Tensor) -> torch.Tensor:
    """The prompts, (rows, length), with their answers behind them."""
    with torch.inference_mode():
        written: torch.Tensor = model.generate(
            input_ids=prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=MAX_ANSWER_TOKENS,
            do_sample=False,
        )
    return written
