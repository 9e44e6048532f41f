"""Formulas as MathML, written into the pages when they are built."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util.math import get_node_equation_number

PRIMED = re.compile(r"<msup>(<m[io][^<]*</m[io]>)<mi>(&#x0203[2-4];)</mi></msup>")


def mathml(formula: str, display: str) -> str:
    """Return a formula of LaTeX as MathML."""
    # Fonts for formulas have raised primes already: in a superscript they would be raised, and shrunk, once more.
    return PRIMED.sub(
        r'<mrow>\1<mo form="postfix" lspace="0" rspace="0">\2</mo></mrow>', convert(formula, display=display)
    )


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(f'<span class="math notranslate nohighlight">{mathml(node.astext(), "inline")}</span>')
    raise nodes.SkipNode


def _displayed(self: Any, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(mathml(node.astext(), "block") + "</div>\n")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    """Offer the renderer under the name that `html_math_renderer` asks for."""
    app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
