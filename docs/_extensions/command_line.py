"""The options of a command, taken from the argument parser while the site is built: ``{options} NAME``."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

MODULE = importlib.import_module("rmtdeq.cli.main")


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command, in the order of ``rmtdeq --help``."""
    return dict(_below(MODULE._parser(), ""))


def _below(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the parsers of commands, and of their families, by name."""
    families = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for choices in families:
        for own, each in choices.items():
            yield from _below(each, f"{name} {own}".strip())
    if not families:
        yield name, parser


class Options(SphinxDirective):
    """A list of a command's options for each of its groups."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the lists, each under the name of its group."""
        for path in Path(MODULE.__file__).parent.glob("*.py"):
            self.env.note_dependency(str(path))
        known = commands()
        name = self.arguments[0]
        if name not in known:
            raise self.error(f"There is no command {name!r}; there are {', '.join(known)}.")
        found: list[nodes.Node] = []
        for group in known[name]._action_groups:
            actions = [a for a in group._group_actions if not isinstance(a, argparse._HelpAction)]
            if actions:
                found += [nodes.rubric("", (group.title or "").capitalize()), option_list(known[name], actions)]
        return found


def option_list(parser: argparse.ArgumentParser, actions: list[argparse.Action]) -> nodes.option_list:
    """Return the options with what they take and what they are for."""
    formatter = parser.formatter_class(parser.prog)
    items = []
    for action in actions:
        taken = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
        names = [f"{name} {taken}".strip() for name in action.option_strings] or [taken]
        group = nodes.option_group("", *(nodes.option("", nodes.option_string("", name)) for name in names))
        text = nodes.paragraph("", "", *words(formatter._expand_help(action) if action.help else ""))
        items.append(nodes.option_list_item("", group, nodes.description("", text)))
    return nodes.option_list("", *items)


def words(text: str) -> list[nodes.Node]:
    """Return a text with the options that it names as code, whose dashes stay what they are."""
    parts = re.split(r"(--[a-z][a-z0-9-]*)", text)
    return [nodes.literal("", part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts)]


def setup(app: Any) -> dict[str, Any]:
    """Offer the directive."""
    app.add_directive("options", Options)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
