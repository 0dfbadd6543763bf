"""Prompts for measuring: questions of a corpus, never the same twice in a run."""

from bench import corpora
from murphey.generator.v1 import generator_pb2 as pb


def groups(streams: tuple[int, ...], run: int) -> list[list[str]]:
    """A group of texts for each number of streams; other texts in each run, so that no prefix is found in a cache."""
    questions = [query.text for query in corpora.queries("squad2-half")]
    position = run * sum(streams)
    found: list[list[str]] = []
    for count in streams:
        found.append(questions[position : position + count])
        position += count
    return found


def request(text: str, tokens: int) -> pb.StreamGenerateRequest:
    """Continues a text by exactly so many tokens, greedily."""
    message = pb.StreamGenerateRequest(prompt=pb.Prompt(text=text))
    message.sampling.max_tokens = message.sampling.min_tokens = tokens
    return message
