"""Registries: names that are taken, and names that are unknown."""

import pytest

from kronreid.data.readers import LAYOUTS
from kronreid.errors import InputError
from kronreid.evaluation import PROTOCOLS
from kronreid.losses import LOSSES
from kronreid.models import MODELS
from kronreid.registry import Registry

EVERY = pytest.mark.parametrize("registry", [LAYOUTS, LOSSES, MODELS, PROTOCOLS], ids=lambda one: one.kind)


@EVERY
def test_a_name_is_added_once(registry: Registry, own_entries: None) -> None:
    names, thing = list(registry), next(iter(registry.values()))
    registry.add("new", thing)
    assert registry["new"] is registry.named("new", "here") is thing
    assert list(registry) == [*names, "new"]
    for name in registry:
        with pytest.raises(InputError, match=f"^{registry.kind} '.*': this name is taken"):
            registry.add(name, thing)


@EVERY
def test_the_nearest_name_is_said(registry: Registry) -> None:
    for name in registry:
        with pytest.raises(InputError) as error:
            registry.named(f"{name}x", "config.yaml")
        said = str(error.value)
        assert said.startswith(f"config.yaml: '{name}x' is unknown; did you mean {name}")
        assert "--plugin" in said
    with pytest.raises(
        InputError, match=f"'zzz' is unknown; one of {next(iter(registry))}".replace("+", ".")
    ):
        registry.named("zzz", "config.yaml")


@EVERY
@pytest.mark.parametrize("name", [None, 3, ["pooled"], {"a": 1}], ids=repr)
def test_what_is_no_name_is_unknown(registry: Registry, name: object) -> None:
    with pytest.raises(InputError, match="is unknown; "):
        registry.named(name, "config.yaml")  # type: ignore[arg-type]
