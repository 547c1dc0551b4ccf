"""A model document against the schema of its form; a Hugging Face configuration is put into a family's words first."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from simulator.errors import Problems
from simulator.inputs.fields import StrictModel
from simulator.inputs.plain_yaml import Plain
from simulator.inputs.validate import validate
from simulator.inputs.yaml_source import Document, read_document
from simulator.model.huggingface import is_config, translate
from simulator.model.schema import FAMILIES, ConfigSchema, schema_for


def validate_model(document: Document, problems: Problems) -> StrictModel | None:
    """Return the document as an object of its schema, or None after reporting all that is wrong."""
    data = document.data
    if is_config(data):
        return _translated(document, data, document.path, problems)
    schema = schema_for(data)
    if schema is None:
        given = str(data.get("family"))
        close = get_close_matches(given, FAMILIES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(FAMILIES)}; or give layers: or config:"
        problems.add("model.family", f"{given!r} is not a family", hint)
        return None
    spec = validate(document, schema, problems)
    if not isinstance(spec, ConfigSchema):
        return spec
    config = read_document(spec.config, "model").data
    own = spec.model_dump(exclude={"config"}, exclude_none=True, exclude_unset=True)
    return _translated(document, {**config, **own}, spec.config, problems)


def _translated(document: Document, config: dict[str, Plain], path: str, problems: Problems) -> StrictModel | None:
    data = translate(config, path, problems)
    schema = schema_for(data) if data else None
    return validate(replace(document, data=data), schema, problems) if data and schema else None
