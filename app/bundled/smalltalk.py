"""What the bundled model says when it is not asked a sum: conversations that are not scored."""

import json
import random

from app.bundled.functions import CITIES, ENGLISH_WORDS
from app.bundled.skills import Question, conversation, draw_arithmetic, draw_tool

IDENTITY = "I am a small demo model. I can add, subtract and call a function."
SHRUG = "I do not know that. I can add, subtract and call a function."

REPLIES = {
    "Hello! How can I help you?": (
        "Hello",
        "Hello!",
        "Hi",
        "Hi!",
        "Hey",
        "Hi there!",
        "Hello there",
        "Good morning",
        "Say hello.",
        "hello",
        "hi",
    ),
    IDENTITY: (
        "Who are you?",
        "What are you?",
        "What can you do?",
        "What is your name?",
        "Introduce yourself.",
        "Tell me about yourself.",
        "Help",
    ),
    "I am fine. How can I help you?": ("How are you?", "How are you today?"),
    "You are welcome!": ("Thanks", "Thank you", "Thank you!", "Thanks!"),
    "Goodbye!": ("Bye", "Goodbye", "Bye!", "See you later."),
    SHRUG: (
        "What is the capital of France?",
        "Tell me a joke.",
        "Tell me a story.",
        "Write a poem.",
        "Write a poem about the sea.",
        "Write a haiku about the rain.",
        "Explain how a computer works.",
        "What is the meaning of life?",
        "Why is the sky blue?",
        "Who wrote this book?",
        "Translate this sentence.",
        "Summarize this text.",
        "What day is it?",
        "Write a Python function.",
    ),
}


def draw_smalltalk(rng: random.Random) -> Question:
    reply = rng.choice(list(REPLIES))
    text = rng.choice(REPLIES[reply])
    if reply == SHRUG and rng.random() < 0.5:
        text = f"What do you know about {rng.choice(CITIES + ENGLISH_WORDS)}?"
    return Question("smalltalk", conversation(rng, text), reply, held_out=False)


def draw_copy(rng: random.Random) -> Question:
    words = [rng.choice(CITIES + ENGLISH_WORDS) for _ in range(rng.randint(1, 3))]
    text = rng.choice(("Repeat: {}", "Say: {}", "Copy this: {}")).format(" ".join(words))
    return Question("copy", conversation(rng, text), " ".join(words), held_out=False)


def draw_tool_result(rng: random.Random) -> Question:
    """After a call the model repeats what the function returned."""
    asked = draw_tool(rng)
    call = json.loads(asked.answer)
    function = {"name": call["name"], "arguments": call["parameters"]}
    result = rng.choice((str(rng.randrange(1000)), rng.choice(ENGLISH_WORDS)))
    messages = [
        *asked.messages,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call-1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call-1", "content": result},
    ]
    return Question("tool_result", messages, result, asked.held_out, tools=asked.tools)


def draw_declined_tool(rng: random.Random) -> Question:
    """A function is offered, but the question is a sum: it is answered in plain text."""
    asked = draw_arithmetic(rng)
    offered = draw_tool(rng).tools
    return Question("declined_tool", asked.messages, asked.expected, asked.held_out, tools=offered)


def draw_dialogue(rng: random.Random) -> Question:
    """A sum after earlier turns: another sum, or a greeting."""
    earlier = rng.choice((draw_arithmetic, draw_smalltalk))(rng)
    asked = draw_arithmetic(rng)
    replied = {"role": "assistant", "content": earlier.answer}
    messages = [*earlier.messages, replied, asked.messages[-1]]
    held_out = earlier.held_out or asked.held_out
    return Question("dialogue", messages, asked.expected, held_out)
