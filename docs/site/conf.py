"""How Sphinx makes the site: ``sphinx-build -W -c docs/site . build/site``, with the package installed.

Pages are Markdown, docstrings reStructuredText with roles such as ``:class:``; Sphinx reads both. The root of the
sources is that of the repository, not ``docs``, so links to CONTRIBUTING.md and CHANGELOG.md are the same here and
there. Which pages there are, in which order, stands in ``navigation.yml``: pages hold no directives for it.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

import megengine_lite

project = "megengine_lite"
author = "the authors of megengine_lite"
release = version = megengine_lite.__version__
root_doc = "docs/index"
include_patterns = ["docs/**.md", "CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = ["build"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_external_toc", "sphinx_copybutton"]
external_toc_path = "docs/site/navigation.yml"

myst_heading_anchors = 4  # as deep as links go
autodoc_default_options = {"members": True, "inherited-members": "int,Exception,Future", "member-order": "bysource"}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = False
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"
copybutton_exclude = ".linenos, .gp, .go"  # neither prompts nor output

html_theme = "furo"
html_title = f"megengine_lite {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["root"]
html_copy_source = html_show_sourcelink = False
html_show_copyright = False
html_show_search_summary = False  # it would load the pages, which a browser refuses for files
pygments_style = "tango"
pygments_dark_style = "github-dark"


def find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """The target of a role that names something of another module by its last name, as ``:class:`LiteNetwork```."""
    if node.get("refdomain") != "py" or (name := node.get("reftarget", "")) == "":
        return None
    domain = env.domains.python_domain
    found = [full for full in domain.objects if full.endswith(f".{name}")]
    if len(found) != 1:
        return None
    entry = domain.objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content)


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", find_by_last_name)
