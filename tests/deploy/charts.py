"""The chart as Helm's own library renders it, each object checked strictly against the schemas of Kubernetes' API."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.deploy import helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "murphey"
EXAMPLES = sorted((ROOT / "deploy" / "helm" / "examples").glob("*.yaml"))
PYTHON_PARTS = ("orchestrator", "retriever", "generator", "ingest")
PARTS = (*PYTHON_PARTS, "gateway")
KUBERNETES = "1.34"
FOREIGN = "cert-manager.io/"
"""Kinds that are not Kubernetes' own, for which it has no schema."""


@dataclass(frozen=True)
class Rendered:
    """All objects of one rendering."""

    objects: list[dict[str, Any]]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The manifests of some kinds."""
        return [each for each in self.objects if each["kind"] in kinds]

    def named(self, part: str, *kinds: str) -> dict[str, Any]:
        """The one manifest of a part."""
        (found,) = [each for each in self.of(*kinds) if each["metadata"]["name"] == f"murphey-{part}"]
        return found

    def pod(self, part: str) -> dict[str, Any]:
        """A part's pod template."""
        return self.named(part, "Deployment", "StatefulSet")["spec"]["template"]

    def environment(self, part: str) -> dict[str, str]:
        """What its container has set; a secret shows as `secret`."""
        container = self.pod(part)["spec"]["containers"][0]
        shown = {each["name"]: each.get("value", "secret") for each in container["env"] or []}
        for reference in container["envFrom"]:
            name = reference["configMapRef"]["name"].removeprefix("murphey-")
            shown |= self.named(name, "ConfigMap")["data"]
        return shown


def render(values: dict[str, Any], folder: Path = CHART) -> Rendered:
    """HelmRefuses for values that the chart refuses; ValidationError for an object that Kubernetes would."""
    texts = helm.templates(folder, values)
    objects = [
        each
        for path in sorted(texts)
        if path.endswith(".yaml")
        for each in yaml.load_all(texts[path], Loader=_Strict)
        if each
    ]
    for each in objects:
        if not each["apiVersion"].startswith(FOREIGN):
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
    return Rendered(objects)


class _Strict(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML's own loader would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands twice: {keys}"
        return super().construct_mapping(node, deep)
