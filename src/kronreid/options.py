"""Checking plain values from YAML, JSON and ``--set`` against the parameters of a class or function.

The annotation of a parameter gives its type and range: ``Annotated[float, Field(ge=0, le=1)]``.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

import pydantic

from kronreid.errors import InputError
from kronreid.registry import nearest

T = TypeVar("T")

#: Common ranges of options.
NotNegative: TypeAlias = Annotated[int, pydantic.Field(ge=0)]
Positive: TypeAlias = Annotated[int, pydantic.Field(ge=1)]
Share: TypeAlias = Annotated[float, pydantic.Field(ge=0, le=1)]
Weight: TypeAlias = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


def checked(made: Callable[..., T], values: Mapping[str, Any], source: str) -> T:
    """Create an object from plain values.

    Args:
        made: A class or function. A parameter that is a dataclass takes a mapping of its own options, which
            override the parameter's default.
        values: The arguments by name. Text that spells a number is accepted as a number.
        source: Where the values come from, for messages.

    Returns:
        The object that `made` returns.

    Raises:
        InputError: A name is unknown (the message suggests the nearest one), or a value is missing, has the
            wrong type, or is out of range.
    """
    arguments = _on_top_of_defaults(made, values, source, ())
    model = _model_of(made)
    try:
        known = model(**arguments)
    except pydantic.ValidationError as error:
        raise InputError(source, str(_what_is_wrong(error))) from None
    try:
        return made(**{name: getattr(known, name) for name in model.model_fields})
    except InputError as error:  # from a check of several options together
        raise error.within(source) from None


@functools.cache
def _parameters(made: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """The annotation and the default of each parameter. The default ``...`` marks a required parameter."""
    if dataclasses.is_dataclass(made):
        hints = typing.get_type_hints(made, include_extras=True)
        found: dict[str, tuple[Any, Any]] = {}
        for field in dataclasses.fields(made):
            default = ... if field.default is dataclasses.MISSING else field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            found[field.name] = hints[field.name], default
        return found
    hints = typing.get_type_hints(made.__init__ if inspect.isclass(made) else made, include_extras=True)
    return {
        name: (hints.get(name, Any), ... if one.default is one.empty else one.default)
        for name, one in inspect.signature(made).parameters.items()
    }


def _on_top_of_defaults(
    made: Callable[..., Any], values: Mapping[str, Any], source: str, place: tuple[str, ...]
) -> dict[str, Any]:
    """The values, with nested options merged into their defaults. Unknown names raise an InputError."""
    parameters = _parameters(made)
    complete: dict[str, Any] = {}
    for name, value in values.items():
        here = ".".join((*place, str(name)))
        if name not in parameters:
            raise InputError(source, f"{here} is unknown; {nearest(str(name), parameters)}")
        default = parameters[name][1]
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            if isinstance(value, Mapping):
                own = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
                value = own | _on_top_of_defaults(type(default), value, source, (*place, name))
            elif value is not None and not isinstance(value, type(default)):
                raise InputError(source, f"{here}: {value!r} must be a mapping of options by name")
        complete[name] = value
    return complete


@functools.cache
def _model_of(made: Callable[..., Any]) -> type[pydantic.BaseModel]:
    """A pydantic model with the parameters of a class or function."""
    fields: dict[str, Any] = _parameters(made)
    config = pydantic.ConfigDict(protected_namespaces=(), arbitrary_types_allowed=True)
    return pydantic.create_model(made.__name__, __config__=config, **fields)


def _what_is_wrong(error: pydantic.ValidationError) -> str:
    """The first error of pydantic in one line: the option, its value and what is expected."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ValueError):  # from a check of several options together
        return f"{name}: {cause}" if name else str(cause)
    if first["type"] == "missing":
        return f"{name} is missing"
    if first["input"] is None:
        return f"{name} has no value; leave it out to take the default"
    limits = {"greater_than_equal": "at least", "less_than_equal": "at most", "less_than": "less than"}
    if first["type"] in limits:
        (limit,) = first["ctx"].values()
        return f"{name} {first['input']!r}: {limits[first['type']]} {limit:g} expected"
    return f"{name} {first['input']!r}: {first['msg'].removeprefix('Input should be ')} expected"
