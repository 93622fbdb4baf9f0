"""The sections of the configuration."""

from __future__ import annotations

import pytest

from actionpool.config import model, sections
from actionpool.config.model import Strict

SECTIONS = {
    value.__name__: value
    for module in (model, sections)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Strict)
}


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_every_setting_is_described_in_a_sentence(section):
    assert section.__doc__
    for name, field in section.model_fields.items():
        if name != "name" or section is sections.Config:
            assert field.description and field.description.endswith("."), name
