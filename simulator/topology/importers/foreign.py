"""Base of the schemas of other tools' files."""

from pydantic import ConfigDict

from simulator.inputs.fields import StrictModel


class ForeignModel(StrictModel):
    """A mapping in a format that is not ours: keys that say nothing about links are passed over."""

    model_config = ConfigDict(extra="ignore")
