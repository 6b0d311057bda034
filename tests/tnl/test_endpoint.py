"""The provider for LiteLLM: what requests mean, and answers whole and in pieces."""

import importlib.util

import pytest

from jaxml.inputs.tokenizer import CharTokenizer
from jaxml.tnl import Generator, endpoint, model
from jaxml.tnl.config import TNLConfig
from tests.tnl import oracle

HERE = importlib.util.find_spec("litellm") is not None
LM = model.language_model(TNLConfig(19, 16, 1, 2, 24, init_std=0.3))
WORDS = CharTokenizer.of("abcdefghijklmnop \n?")


def test_what_a_request_means():
    assert endpoint.asked({}) == {"num_tokens": 16, "temperature": 1.0, "seed": 0, "stop": ()}
    how = endpoint.asked({"max_tokens": 3, "temperature": 0, "stop": "a", "top_p": 0.5, "seed": 2})
    assert how == {
        "num_tokens": 3, "temperature": 0.0, "seed": 2, "stop": ("a",), "top_p": 0.5
    }  # fmt: skip
    said = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    assert endpoint.text_of(said) == "a\nb"


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.delenv(endpoint.MODEL, raising=False)
    with pytest.raises(ValueError, match="JAXML_MODEL must name the folder of a run"):
        endpoint.handler  # noqa: B018
    if not HERE:
        with pytest.raises(ImportError, match=r"pip install 'jaxml-lab\[serve\]'"):
            endpoint.wrap(Generator(LM, oracle.drawn(LM), WORDS))


@pytest.mark.skipif(not HERE, reason="needs the package litellm (extra serve)")
@pytest.mark.filterwarnings("ignore")
def test_completions_are_those_of_the_generator(monkeypatch):
    import litellm

    generator = Generator(LM, oracle.drawn(LM), WORDS)
    provider = [{"provider": "jaxml", "custom_handler": endpoint.wrap(generator)}]
    monkeypatch.setattr(litellm, "custom_provider_map", provider)
    how = {"model": "jaxml/tnl", "prompt": "a bad", "max_tokens": 8, "temperature": 0}
    (want,) = generator.generate(["a bad"], num_tokens=8, temperature=0)
    whole = litellm.text_completion(**how)
    assert whole.choices[0].text == want
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (5, 8)
    parts = litellm.text_completion(**how, stream=True)
    assert "".join(part.choices[0].text or "" for part in parts) == want
