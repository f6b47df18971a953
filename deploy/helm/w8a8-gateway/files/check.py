# ruff: noqa: S310, T201 (it prints for `helm test`, and asks only what the chart names)
"""One check of an installed release, as `helm test` runs it: readiness, auth or chat.

Standard library only. API_URL, MANAGEMENT_URL and, for chat, API_KEY say where and how.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any


def main(name: str) -> int:
    problem = {"readiness": check_readiness, "auth": check_auth, "chat": check_chat}[name]()
    print(problem or f"{name}: as it should be")
    return int(bool(problem))


def check_readiness() -> str:
    url = os.environ["MANAGEMENT_URL"]
    answers = {path: ask(url + path)[0] for path in ("/health", "/ready")}
    return "" if set(answers.values()) == {200} else f"readiness: {answers}"


def check_auth() -> str:
    status, body = ask(os.environ["API_URL"] + "/v1/models", key="not-a-key")
    if status != 401 or "error" not in body:
        return f"auth: a wrong key is answered with {status}"
    return ""


def check_chat() -> str:
    url, key = os.environ["API_URL"], os.environ["API_KEY"]
    status, models = ask(url + "/v1/models", key)
    if status != 200:
        return f"chat: /v1/models answers {status}"
    message = {"role": "user", "content": "What is 2 + 2?"}
    request = {"model": models["data"][0]["id"], "messages": [message], "max_tokens": 16}
    status, answer = ask(url + "/v1/chat/completions", key, request)
    if status != 200 or not answer["choices"][0]["message"]["content"]:
        return f"chat: /v1/chat/completions answers {status}"
    return ""


def ask(url: str, key: str = "", body: Any = None) -> tuple[int, Any]:
    """Status and JSON body of the answer; an empty body where it is not JSON."""
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # inside the cluster
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, parse(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, parse(error.read())
    except OSError as error:
        print(f"{url}: {error}")
        return 0, {}


def parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
