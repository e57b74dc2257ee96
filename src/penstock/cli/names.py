"""What a person means by `isvc`, `pod/x` or `deploy.apps`: a resource of the server, and its path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from penstock.cli.api import Api
from penstock.kit.errors import InvalidInput, NotFound, nearest
from penstock.resources.scheme import KINDS, Kind, find, resolve, words

CATEGORIES = frozenset(category for kind in KINDS for category in kind.categories)


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object as the API serves it."""

    api_version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool

    @property
    def title(self) -> str:
        """As kubectl names it in messages: `deployment.apps`."""
        group = self.api_version.rpartition("/")[0]
        return f"{self.singular}.{group}" if group else self.singular

    def path(self, namespace: str | None, name: str = "", part: str = "") -> str:
        """The URL path; namespace None means all of them."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace is not None else ""
        return "/".join(
            step for step in (f"{root}{self.api_version}{scope}/{self.plural}", name, part) if step
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Objects of one kind; no names means all of them."""

    resource: Resource
    names: tuple[str, ...] = ()


def of_kind(kind: Kind) -> Resource:
    """A kind of ours."""
    return Resource(kind.api_version, kind.kind, kind.plural, kind.singular, kind.namespaced)


def of_document(api: Api | None, api_version: str, kind: str) -> Resource:
    """By what a manifest says; asks the server about kinds that are not ours. Raises InvalidInput."""
    known = find(api_version, kind)
    if known is not None:
        return of_kind(known)
    for resource in _served(api, api_version) if api else ():
        if resource.kind == kind:
            return resource
    near = nearest(kind, [known.kind for known in KINDS], 1)
    hint = f"did you mean {near[0]}?" if near else "`penstock get --help` shows how kinds are named"
    raise InvalidInput(f"no matches for kind {kind!r} in version {api_version!r}", hint=hint)


def of_word(api: Api, word: str) -> Resource:
    """By what a person says. Raises NotFound with the nearest names."""
    known = resolve(word)
    if known is not None:
        return of_kind(known)
    for group in api.get("/apis").get("groups", ()):
        for resource in _served(api, group["preferredVersion"]["groupVersion"]):
            if word.lower() in (resource.plural, resource.singular, resource.kind.lower()):
                return resource
    near = nearest(word, words())
    raise NotFound(
        f"the server has no resource type {word!r}",
        hint=f"did you mean {' or '.join(near)}?" if near else f"for example: {', '.join(words()[:8])}",
    )


def parse_arguments(api: Api, arguments: Sequence[str]) -> tuple[Wanted, ...]:
    """`TYPE`, `TYPE,TYPE`, `all`, `TYPE NAME…` or `TYPE/NAME…`. Raises InvalidInput, NotFound."""
    if not arguments:
        raise InvalidInput("found no resource type, expected one, such as isvc, pods or all")
    if any("/" in argument for argument in arguments):
        return tuple(_slashed(api, argument) for argument in arguments)
    types, names = arguments[0], tuple(arguments[1:])
    wanted = tuple(Wanted(resource, names) for word in types.split(",") for resource in _meant(api, word))
    if names and len(wanted) > 1:
        raise InvalidInput("names can be given for one type only", hint="write TYPE/NAME TYPE/NAME …")
    return wanted


def _slashed(api: Api, argument: str) -> Wanted:
    word, slash, name = argument.partition("/")
    if not (word and slash and name):
        raise InvalidInput(f"found {argument!r}, expected TYPE/NAME like the other arguments")
    return Wanted(of_word(api, word), (name,))


def _meant(api: Api, word: str) -> Iterator[Resource]:
    if word in CATEGORIES:
        yield from (of_kind(kind) for kind in KINDS if word in kind.categories)
    else:
        yield of_word(api, word)


def _served(api: Api, api_version: str) -> Iterator[Resource]:
    root = "/apis/" if "/" in api_version else "/api/"
    try:
        listed = api.get(root + api_version).get("resources", ())
    except NotFound:
        return
    for entry in listed:
        if "/" not in entry["name"]:
            singular = entry.get("singularName") or entry["kind"].lower()
            yield Resource(api_version, entry["kind"], entry["name"], singular, entry["namespaced"])
