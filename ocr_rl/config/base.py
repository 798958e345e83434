"""What every section of a recipe is made of: checked fields with their descriptions, and choices out of tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Frozen, unknown keys are errors; the text under a field is its description in the schema and in the docs."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    def changed(self, *keys: str) -> list[str]:
        """Of these keys those that differ from their defaults, not those that are written: config.json has them all."""
        fields = type(self).model_fields
        return sorted(key for key in keys if getattr(self, key) != fields[key].default)


@dataclass(frozen=True)
class KeyOf:
    """`Annotated[str, KeyOf(TABLE)]`: a string that is a key of the table, in the schema too."""

    table: Mapping[str, Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(self.table))
