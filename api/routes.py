"""The routes of a service: those that embed are BentoML's APIs, the others are marked here."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel

Handler = TypeVar("Handler", bound=Callable[..., Any])
# public: for users; probe: for proxies and orchestrators; internal: blocked by proxies.
Audience: TypeAlias = Literal["public", "probe", "internal"]


Verb: TypeAlias = Literal["GET", "POST", "DELETE"]


@dataclass(frozen=True, slots=True)
class Page:
    """One path and verb, and the method of the service that answers it.

    `charged`: whether it costs a request. `body`: what a POST takes, or `form` for a form.
    """

    path: str
    method: str
    summary: str
    protected: bool = False
    fixed: bool = False
    audience: Audience = "public"
    verb: Verb = "GET"
    charged: bool = False
    body: type[BaseModel] | None = None
    form: bool = False


def page(
    *paths: str, protected: bool = False, fixed: bool = False, audience: Audience = "public"
) -> Callable[[Handler], Handler]:
    """Mark a method of the service as the GET page at `paths`.

    The first line of its docstring is the summary in the documents.

    Args:
        paths: exact paths; {model} in one stands for each name of the served model.
        protected: whether it needs a token.
        fixed: whether the method answers the same JSON each time; it is called once then.
        audience: who calls it.
    """

    def mark(method: Handler) -> Handler:
        summary = summary_of(method.__doc__)
        pages = [Page(path, method.__name__, summary, protected, fixed, audience) for path in paths]
        method.__dict__["pages"] = pages
        return method

    return mark


def call(
    verb: Verb, path: str, *, body: type[BaseModel] | None = None, form: bool = False
) -> Callable[[Handler], Handler]:
    """Mark a method of the service as what answers a verb at a path, for a request of a user.

    The first line of its docstring is the summary in the documents.

    Args:
        verb: of the request, which costs one request of the user's limit.
        path: exact; {NAME} in it stands for a name.
        body: of a POST; the method is given it besides the request.
        form: whether a POST has a form, which the method reads as it comes.
    """

    def mark(method: Handler) -> Handler:
        summary = summary_of(method.__doc__)
        marked = Page(path, method.__name__, summary, protected=True, verb=verb, charged=True)
        method.__dict__["pages"] = [replace(marked, body=body, form=form)]
        return method

    return mark


def summary_of(docstring: str | None) -> str:
    """The first line of a docstring, without its full stop."""
    lines = (docstring or "").strip().splitlines()
    return lines[0].removesuffix(".") if lines else ""


def marked_pages(inner: type) -> Iterator[Page]:
    """Every page of a service's class, and of the classes that it derives from."""
    for name in dir(inner):
        yield from getattr(getattr(inner, name, None), "pages", ())


def pages(inner: type, *, models: Iterable[str]) -> Iterator[Page]:
    """Every page of a service's class, with one path for each of `models` where it says {model}."""
    names = list(models)
    for page in marked_pages(inner):
        paths = dict.fromkeys(page.path.replace("{model}", name) for name in names)
        for path in paths:
            yield replace(page, path=path)
