"""What every file in `plugins/sources` promises."""

import inspect
from types import ModuleType

import pytest

from penstock.app.registry import source_modules
from penstock.contracts.source import ModelSource
from penstock.kit.errors import InvalidInput

MODULES = source_modules()
GOOD = {
    "file": "file:///models/bert",
    "hf": "hf://owner/model:main",
    "http": "http://host/model.bin",
    "https": "https://host/model.bin",
    "s3": "s3://bucket/models/bert",
}
SCHEMES = [(module, scheme) for module in MODULES for scheme in module.SCHEMES]


def test_every_scheme_belongs_to_one_source() -> None:
    assert sorted(scheme for _, scheme in SCHEMES) == sorted(GOOD)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_source_says_what_it_is_and_offers_the_contract(module: ModuleType) -> None:
    assert module.__doc__
    assert all(scheme == scheme.lower() and scheme for scheme in module.SCHEMES)
    assert list(inspect.signature(module.open_source).parameters) == ["uri", "environ"]


@pytest.mark.parametrize(("module", "scheme"), SCHEMES)
def test_opening_asks_nobody_and_gives_a_source(module: ModuleType, scheme: str) -> None:
    source = module.open_source(GOOD[scheme], {})
    for name in ("snapshot", "read"):
        promised = inspect.signature(getattr(ModelSource, name)).parameters
        assert list(inspect.signature(getattr(type(source), name)).parameters) == list(promised)


@pytest.mark.parametrize(("module", "scheme"), SCHEMES)
@pytest.mark.parametrize("rest", ["", "?", "user:hunter2@", "user:hunter2@/", "[::1/x?token=hunter2"])
def test_a_uri_that_is_none_is_invalid_input_and_its_secrets_stay_out(
    module: ModuleType, scheme: str, rest: str
) -> None:
    uri = f"{scheme}://{rest}"
    try:
        module.open_source(uri, {})
    except InvalidInput as error:
        assert "expected" in error.message
        assert "hunter2" not in error.message + error.hint
    else:
        assert scheme == "s3" and rest  # whether a bucket of that name exists is for the store to say
