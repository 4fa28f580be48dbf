"""References in docstrings, for the site: ``:class:`name``` becomes a link to that name's entry in the reference.

As in Sphinx, a name is looked for in the class, the module and the package around it, then anywhere. A name that is
nowhere is a warning, which the build takes for an error.
"""

import logging
import re
from collections.abc import Iterator
from typing import Any

from griffe import Extension, Module, Object

ROLE = re.compile(r":(?:class|func|meth|mod|attr):`~?([\w.]+)`")
# Two arguments told of at once, which the reader of docstrings does not know: each gets an entry.
TOGETHER = re.compile(r"^( +)(\w+(?:, \w+)+):(?= )", re.M)
logger = logging.getLogger("mkdocs.plugins.docstring_roles")


class DocstringRoles(Extension):
    """Rewrites the roles of every docstring of a package once all of it is known."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        known = {one.path: one for one in _objects(pkg)}
        for one in known.values():
            if one.docstring is not None:
                text = one.docstring.value
                text = ROLE.sub(lambda role, here=one: _link(role[1], here, known), text)
                one.docstring.value = TOGETHER.sub(_apart, text) if one.is_function else text


def _apart(match: re.Match[str]) -> str:
    *first, last = match[2].split(", ")
    return "".join(f"{match[1]}{name}: see {last}.\n" for name in first) + f"{match[1]}{last}:"


def _objects(parent: Object) -> Iterator[Object]:
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from _objects(member)  # type: ignore[arg-type]


def _link(name: str, here: Object, known: dict[str, Object]) -> str:
    found = _find(name.lstrip("."), here, known)
    if found is None:
        logger.warning("%s: the docstring refers to %s, which is nowhere", here.path, name)
        return f"`{name}`"
    target: Object | None = found
    # What is private or says nothing of itself has no entry: then what it belongs to.
    while target is not None and not (target.docstring and all(p[0] != "_" for p in target.path.split("."))):
        target = target.parent  # type: ignore[assignment]
    return f"[`{name.lstrip('.')}`][{target.path}]" if target else f"`{name}`"


def _find(name: str, here: Object, known: dict[str, Object]) -> Object | None:
    around: Object | None = here
    while around is not None:
        if f"{around.path}.{name}" in known:
            return known[f"{around.path}.{name}"]
        around = around.parent  # type: ignore[assignment]
    if name in known:
        return known[name]
    anywhere = [one for path, one in known.items() if path.endswith(f".{name}")]
    return anywhere[0] if anywhere else None
