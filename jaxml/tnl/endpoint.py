"""Our models behind LiteLLM's server, which speaks the usual `/v1/completions`.

    pip install "jaxml-lab[serve]"
    echo "from jaxml.tnl.endpoint import handler" > served.py
    JAXML_MODEL=runs/first litellm --config litellm.yaml

with `litellm.yaml` beside `served.py` (LiteLLM takes handlers from files beside its settings):

    model_list:
      - {model_name: tnl, litellm_params: {model: jaxml/tnl}}
    litellm_settings:
      custom_provider_map: [{provider: jaxml, custom_handler: served.handler}]

LiteLLM is imported when `handler` is asked for. These models continue text, they do not talk: what
messages hold is continued as one text.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from jaxml.tnl.generator import Generator

MODEL = "JAXML_MODEL"
"""Names the folder of the run that `handler` serves."""


def text_of(messages: Sequence[dict[str, Any]]) -> str:
    """The text to continue: what messages hold, a line each.

    >>> text_of([{"role": "user", "content": "To be"}])
    'To be'
    """
    parts = [message.get("content") or "" for message in messages]
    return "\n".join(part for part in parts if isinstance(part, str)) or "\n"


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `Generator.stream` that a request's options mean."""
    stop = options.get("stop") or ()
    how: dict[str, Any] = {
        "num_tokens": int(options.get("max_tokens") or options.get("max_completion_tokens") or 16),
        "temperature": 1.0 if options.get("temperature") is None else float(options["temperature"]),
        "seed": int(options.get("seed") or 0),
        "stop": (stop,) if isinstance(stop, str) else tuple(stop),
    }
    if (top_p := options.get("top_p")) is not None and top_p < 1:
        how["top_p"] = float(top_p)
    return how


def wrap(generator: Generator) -> Any:
    """A provider as LiteLLM takes it, for `litellm.custom_provider_map`.

    Raises:
      ImportError: LiteLLM is not installed.
    """
    try:
        import litellm  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("the server needs LiteLLM: pip install 'jaxml-lab[serve]'.") from None
    turn = threading.Lock()  # one text at a time on the device

    def pieces(messages: Sequence[dict[str, Any]], options: dict[str, Any]) -> Iterator[str]:
        how = asked(options)
        with turn:
            (ids,) = generator.encode([text_of(messages)])
            context = generator.read([text_of(messages)], len(ids) + how["num_tokens"])
            for piece in generator.stream(context, **how):
                yield piece.texts[0]

    class Provider(litellm.CustomLLM):
        """Texts whole or as they come."""

        def completion(self, *_: Any, **given: Any) -> Any:
            options = given.get("optional_params") or {}
            text = "".join(pieces(given["messages"], options))
            sizes = [len(ids) for ids in generator.encode([text_of(given["messages"]), text])]
            answer = given["model_response"]
            answer.choices[0].message.content = text
            answer.choices[0].finish_reason = (
                "length" if sizes[1] >= asked(options)["num_tokens"] else "stop"
            )
            answer.usage = litellm.Usage(sizes[0], sizes[1], sum(sizes))
            return answer

        async def acompletion(self, *args: Any, **given: Any) -> Any:
            return await asyncio.to_thread(self.completion, *args, **given)

        def streaming(self, *_: Any, **given: Any) -> Iterator[dict[str, Any]]:
            for text in pieces(given["messages"], given.get("optional_params") or {}):
                yield _chunk(text)
            yield _chunk("", "stop")

        async def astreaming(self, *args: Any, **given: Any) -> AsyncIterator[dict[str, Any]]:
            found = self.streaming(*args, **given)
            while (chunk := await asyncio.to_thread(next, found, None)) is not None:
                yield chunk

    return Provider()


def _chunk(text: str, finish: str = "") -> dict[str, Any]:
    return {
        "text": text, "is_finished": bool(finish), "finish_reason": finish, "index": 0,
        "tool_use": None, "usage": None,
    }  # fmt: skip


def __getattr__(name: str) -> Any:
    """`handler`: the provider of the run that the environment names, made when it is asked for."""
    if name != "handler":
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    if not (folder := os.environ.get(MODEL)):
        raise ValueError(f"{MODEL} must name the folder of a run; it is not set.")
    globals()["handler"] = provider = wrap(Generator.load(folder))
    return provider
