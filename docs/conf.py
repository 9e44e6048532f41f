"""The documentation: `sphinx-build -W --keep-going -b html docs build/html`, without a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from numpydoc.xref import DEFAULT_LINKS

import rmtdeq.models.pcdeq

project = "rmtdeq"
author = "The rmtdeq developers"
copyright = author
version = release = rmtdeq.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "command_line",
    "mathml",
    "whole_site",
]
templates_path = ["_templates"]
exclude_patterns = ["tutorials"]
default_role = "py:obj"

# Formulas become MathML while the site is built (latex2mathml, pure Python, which only the build needs).  Every browser
# of today draws it by itself: no script, nothing to fetch, and readers without JavaScript see formulas, too.  MathJax,
# offline, would be 24 MB of files in the site; KaTeX a build with node.  A font of 51 kB, _static/math.woff2, makes
# brackets grow where a machine has no font for formulas.
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say it, with shapes
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
# Types in docstrings link to the package's own classes.  Those of python and numpy are left as text: links there would
# need the network.
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {term: term for term in DEFAULT_LINKS} | {
    name: f"{module.__name__}.{name}"
    for module in (rmtdeq.models.pcdeq, rmtdeq.models, rmtdeq)
    for name in module.__all__
    if name[0].isupper()
}
# All of numpydoc's checks but those that ask for sections where a sentence does, and for capitals where a symbol stands
# (tau0_squared : "τ0² > 0, …").  Arguments that are another function's stand together: "X, deq : as for `kernel`".
numpydoc_validation_checks = {
    "all",
    *("EX01", "SA01", "ES01"),
    *("PR01", "PR03", "PR04", "PR07", "PR08", "RT01", "RT03"),
}

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "gallery",
    "filename_pattern": "",
    "within_subsection_order": "order.by_purpose",
    "notebook_extensions": set(),
    "download_all_examples": False,
    "capture_repr": (),
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "thumbnail_size": (520, 300),
    "remove_config_comments": True,
    "copyfile_regex": r".*\.rst",
    "abort_on_example_error": True,
    "reset_modules": ("matplotlib",),
}

html_theme = "pydata_sphinx_theme"
html_title = "rmtdeq"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {
    page: []
    for page in ("index", "gallery/*", "conventions", "command-line", "inputs", "troubleshooting", "citing", "changes")
}
html_theme_options = {
    "logo": {"text": "rmtdeq"},
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_depth": 2,
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
