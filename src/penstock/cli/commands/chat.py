"""Talk to a model in the terminal, through the gateway.

Without a prompt it is a conversation: an empty line or Ctrl-D ends it, Ctrl-C stops an answer. Where the gateway asks for an API
key, it is taken from the variable PENSTOCK_API_KEY.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import typer

from penstock.cli.gateway import Url, client, refused, unreachable
from penstock.kit.errors import DeadlineExceeded, InvalidInput, NotFound, PlatformError, Unavailable

ANSWER_TIMEOUT_S = 180.0
Message = dict[str, str]


def run(
    model: Annotated[
        str, typer.Argument(help="Name of the service; default: the only one.", show_default=False)
    ] = "",
    prompt: Annotated[
        list[str] | None, typer.Argument(help="Ask this and leave.", show_default=False)
    ] = None,
    system: Annotated[str, typer.Option(help="System message.", show_default=False)] = "",
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.", show_default=False)] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 always answers alike.", show_default=False)
    ] = None,
    url: Url = "",
) -> None:
    """The model is asked through the gateway of this machine's settings, or the one at `url`."""
    options = {"max_tokens": max_tokens, "temperature": temperature}
    with client(url, ANSWER_TIMEOUT_S) as http:
        chat = Chat(http, model or only_model(http), {k: v for k, v in options.items() if v is not None})
        if system:
            chat.messages.append({"role": "system", "content": system})
        question = " ".join(prompt or ()) or ("" if sys.stdin.isatty() else sys.stdin.read().strip())
        if question:
            _show(chat.ask(question))
        else:
            _converse(chat)


class Chat:
    """One conversation; `messages` is what was said so far."""

    def __init__(self, http: httpx.Client, model: str, options: dict[str, Any]) -> None:
        self._http = http
        self._model = model
        self._options = options
        self.messages: list[Message] = []

    def ask(self, question: str) -> Iterator[str]:
        """The answer as it comes. Raises PlatformError; a question without an answer is not remembered."""
        messages = [*self.messages, {"role": "user", "content": question}]
        body = {"model": self._model, "messages": messages, "stream": True, **self._options}
        answer = ""
        for piece in _deltas(self._http, body):
            answer += piece
            yield piece
        self.messages = [*messages, {"role": "assistant", "content": answer}]


def only_model(http: httpx.Client) -> str:
    """The name of the one service there is. Raises NotFound, InvalidInput when there are several."""
    try:
        answer = http.get("/v1/models")
        names = [entry["id"] for entry in answer.raise_for_status().json()["data"]]
    except httpx.HTTPStatusError as error:
        raise refused(error.response) from None
    except httpx.TransportError as error:
        raise unreachable(http, error) from None
    if not names:
        raise NotFound(
            "the gateway knows no service", hint="`penstock apply -f` one, or start with `penstock up`"
        )
    if len(names) > 1:
        raise InvalidInput(
            f"found {len(names)} services, expected the name of one", hint=f"they are {', '.join(names[:10])}"
        )
    return str(names[0])


def _converse(chat: Chat) -> None:
    while True:
        try:
            question = input("\nyou> ").strip()
        except EOFError:
            print()
            return
        if not question:
            return
        try:
            _show(chat.ask(question))
        except KeyboardInterrupt:
            print(" …")
        except PlatformError as error:
            print(f"error: {error.message}", file=sys.stderr)


def _show(pieces: Iterator[str]) -> None:
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()


def _deltas(http: httpx.Client, body: dict[str, Any]) -> Iterator[str]:
    try:
        with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                answer.read()
                raise refused(answer)
            ended = False
            for line in answer.iter_lines():
                if line == "data: [DONE]":
                    ended = True
                elif line.startswith("data:"):
                    yield from _contents(json.loads(line[5:]))
            if not ended:
                raise Unavailable("the answer broke off")
    except httpx.ReadTimeout:
        raise DeadlineExceeded(f"no token within {ANSWER_TIMEOUT_S:g} s") from None
    except httpx.TransportError as error:
        raise unreachable(http, error) from None


def _contents(event: dict[str, Any]) -> Iterator[str]:
    if "error" in event:
        raise Unavailable(str(event["error"].get("message", event["error"])))
    for choice in event.get("choices", ()):
        if content := choice.get("delta", {}).get("content"):
            yield content
