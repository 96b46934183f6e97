"""Builds these pages as a site: make docs."""

import os
import sys
from functools import partialmethod
from pathlib import Path

from nbclient import NotebookClient

from allukan import __version__

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for allukan in the tutorials
# what they print fits the page, without colours, bars and remarks on notebooks
os.environ |= {"COLUMNS": "84", "TTY_COMPATIBLE": "0", "PYTHONWARNINGS": "ignore"}

# what a command prints comes in pieces of 100 characters; nb_merge_streams of myst-nb would break the line after each
NotebookClient.__init__ = partialmethod(NotebookClient.__init__, coalesce_streams=True)

project, author, release = "allukan", "the allukan developers", __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme, html_title = "furo", f"allukan {release}"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "force"  # a cache knows the pages, not the code that they run
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_use_ivar = True
# "name" and the like are attributes of many classes; the tables that allukan compare writes have headings of one level
suppress_warnings = ["ref.python", "myst.header"]
