import asyncio
import json
from typing import Any

import httpx
import pytest

from app.bundled.scoring import Reply
from app.bundled.skills import Question, integer_format
from app.core.errors import AppError
from app.evaluate.observation import ask, common_prefix, in_turns, is_valid_json, score

WORDS = {"<user>": 1, "two": 2, "<end>": 3, "<reply>": 4, "four": 5}


def answer(request: httpx.Request) -> httpx.Response:
    """A server whose tokens are WORDS, and that is certain of every token but the last."""
    body = json.loads(request.content)
    if request.url.path == "/tokenize":
        return httpx.Response(200, json={"tokens": tokens_of(body)})
    if request.url.path == "/v1/completions":
        seen = [None, *(entry(token) for token in body["prompt"][1:])]
        return httpx.Response(200, json={"choices": [{"prompt_logprobs": seen}]})
    if body["messages"][0]["content"] == "fail":
        return httpx.Response(400, json={"error": {"message": "no"}})
    call = {"function": {"name": "f", "arguments": "{}"}}
    message = {"content": None, "tool_calls": [call]} if body.get("tools") else {"content": "4"}
    return httpx.Response(200, json={"choices": [{"message": message}]})


def tokens_of(body: dict[str, Any]) -> list[int]:
    if "prompt" in body:
        return [WORDS[word] for word in body["prompt"].split()]
    tokens = []
    for message in body["messages"]:
        opening = {"user": "<user>", "assistant": "<reply>"}[message["role"]]
        tokens += [WORDS[word] for word in (opening, message["content"], "<end>")]
    return tokens + [WORDS["<reply>"]] * body["add_generation_prompt"]


def entry(token: int) -> dict[str, Any]:
    other = {"9": {"logprob": -0.5, "rank": 1}} if token == WORDS["<end>"] else {}
    rank = 2 if other else 1
    return {**other, str(token): {"logprob": -1.0 if other else 0.0, "rank": rank}}


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://engine")


def run_score(text: dict[str, Any]) -> Any:
    async def act() -> Any:
        async with client() as connection:
            return await score(connection, text, 20)

    return asyncio.run(act())


def test_of_a_conversation_only_the_answer_is_scored() -> None:
    messages = [{"role": "user", "content": "two"}, {"role": "assistant", "content": "four"}]
    four, end = run_score({"messages": messages})
    assert (four.logprob, four.likeliest) == (0.0, "5")
    assert (end.logprob, end.likeliest) == (-1.0, "9")
    assert set(end.distribution) == {"3", "9"}


def test_of_plain_text_all_but_the_first_token_is_scored() -> None:
    assert len(run_score({"text": "two four two"})) == 2


def run_ask(question: Question) -> Reply:
    async def act() -> Reply:
        async with client() as connection:
            return await ask(connection, question, 8)

    return asyncio.run(act())


def question(content: str, **changes: Any) -> Question:
    facts: dict[str, Any] = {"skill": "any", "expected": "4", "held_out": True}
    return Question(messages=[{"role": "user", "content": content}], **(facts | changes))


def test_replies_carry_text_or_calls() -> None:
    assert run_ask(question("2 + 2?")) == Reply("4", ())
    assert run_ask(question("2 + 2?", tools=[{}])) == Reply("", (("f", "{}"),))


def test_a_request_that_is_refused_ends_the_evaluation_with_its_reason() -> None:
    with pytest.raises(AppError, match="/v1/chat/completions with 400"):
        run_ask(question("fail"))


def test_the_first_failure_of_many_is_the_one_that_is_told() -> None:
    async def act(item: int) -> int:
        if item == 2:
            raise AppError("two")
        return item

    assert asyncio.run(in_turns([0, 1], act)) == [0, 1]
    with pytest.raises(AppError, match="two"):
        asyncio.run(in_turns([0, 1, 2], act))


@pytest.mark.parametrize(
    ("content", "valid"),
    [
        ('{"answer": 4}', True),
        ('{"answer": 4, "more": 1}', False),
        ("{}", False),
        ("[4]", False),
        ('{"answer": 4', False),
    ],
)
def test_json_is_valid_when_it_parses_and_has_the_schemas_keys(content: str, valid: bool) -> None:
    asked = question("2 + 2?", response_format=integer_format("answer"))
    assert is_valid_json(asked, Reply(content)) is valid
    assert is_valid_json(question("2 + 2?"), Reply(content)) is None


def test_the_common_prefix_of_two_lists() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([1, 2], [1, 2, 3]) == 2
    assert common_prefix([], [1]) == 0
