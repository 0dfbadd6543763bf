"""The model card: what the model is, what it was made of, and what was measured of it."""

from typing import Any


def model_card(name: str, parameters: int, config: dict[str, Any], facts: dict[str, Any]) -> str:
    """Markdown with the front matter that hubs read. Of `facts` the keys licence, data, metrics, training and environment are
    shown; what is missing is left out.
    """
    licence = facts.get("licence", "other")
    lines = [
        "---", f"license: {licence}", "library_name: transformers", "pipeline_tag: text-generation", "---", f"# {name}", "",
        f"A Llama model of {parameters:,} parameters ({config['num_hidden_layers']} layers of {config['hidden_size']}, "
        f"context {config['max_position_embeddings']:,} tokens), trained with Murphey.",
    ]  # fmt: skip
    for key, title in (
        ("data", "Data"), ("training", "Training"), ("metrics", "Measured"), ("environment", "Environment"),
    ):  # fmt: skip
        if facts.get(key):
            lines += ["", f"## {title}", "", "| | |", "|---|---|", *_rows(facts[key])]
    return "\n".join([*lines, ""])


def _rows(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [f"| {prefix or 'value'} | {_cell(value)} |"]
    rows: list[str] = []
    for key, inner in value.items():
        label = f"{prefix}{key}"
        rows += _rows(inner, f"{label}.") if isinstance(inner, dict) else [f"| {label} | {_cell(inner)} |"]
    return rows


def _cell(value: Any) -> str:
    shown = (
        f"{value:.4g}"
        if isinstance(value, float)
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
    return shown.replace("|", "\\|").replace("\n", " ")
