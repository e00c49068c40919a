"""JSON schemas in the form that kubeconform reads.

schemas.py builtin FOLDER VERSION...   of Kubernetes' own kinds, from the package kubernetes-validate
schemas.py custom FOLDER CRD.yaml...   of custom resources, from their definitions
"""

import json
import pathlib
import sys


def builtin(folder, versions):
    import kubernetes_validate

    source = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    for version in versions:
        for strict in ("", "-strict"):
            target = folder / f"v{version}.0{strict}"
            target.mkdir(parents=True, exist_ok=True)
            for file in (source / f"v{version}.0-local{strict}").glob("*.json"):
                # Their ids are absolute, which kubeconform takes for addresses in the network.
                schema = json.loads(file.read_text().replace('"/api/_definitions.json#', '"_definitions.json#'))
                schema.pop("$id", None)
                (target / file.name).write_text(json.dumps(schema))


def custom(folder, definitions):
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    for file in definitions:
        for definition in yaml.safe_load_all(pathlib.Path(file).read_text()):
            if not definition or definition.get("kind") != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            group = spec["group"].split(".")[0]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"].update(metadata={"type": "object"}, apiVersion={"type": "string"}, kind={"type": "string"})
                (folder / f"{spec['names']['kind'].lower()}-{group}-{version['name']}.json").write_text(json.dumps(schema))


def strict(schema):
    """Refuses fields that are not declared, as the API server does."""
    if isinstance(schema, list):
        for item in schema:
            strict(item)
    if not isinstance(schema, dict):
        return schema
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and "properties" in schema and not is_open:
        schema["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema.pop("anyOf", None)
        schema["oneOf"] = [{"type": "string"}, {"type": "integer"}]
    for key, value in schema.items():
        if key not in ("default", "example", "enum"):
            strict(value)
    return schema


if __name__ == "__main__":
    {"builtin": builtin, "custom": custom}[sys.argv[1]](pathlib.Path(sys.argv[2]), sys.argv[3:])
