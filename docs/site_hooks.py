"""Hooks of the documentation site: links of notebooks, formulas, and the options of every verb."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

from hidden_context.cli.main import VERBS

_PLACE = "<!-- every verb's options -->"
_BLOCK = re.compile(r"^( *)\.\. math:: *(.+(?:\n\1 +\S.*)*)", re.MULTILINE)


@event_priority(100)  # before the plugin that turns notebooks into pages
def on_files(files: Files, config: Any) -> Files:
    """Add the notebooks, which lie outside the folder of pages."""
    root = Path(__file__).parents[1]
    for notebook in sorted((root / "examples").glob("*.ipynb")):
        path = notebook.relative_to(root).as_posix()
        files.append(File(path, str(root), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what each verb prints for ``--help`` where the page asks for it."""
    if _PLACE not in markdown:
        return markdown
    parts = [f"## {verb}\n\n{text}\n\n```text\n{_help(verb)}```" for verb, text in VERBS.items()]
    return markdown.replace(_PLACE, "\n\n".join(parts))


def on_page_content(html: str, page: Any, files: Any, **_: Any) -> str:
    """Point a notebook's links, which hold in the repository, to the site's pages."""

    def link(match: re.Match[str]) -> str:
        if files.get_file_from_path(f"{match[1]}.md") is None:
            raise PluginError(f"{page.file.src_uri} links to docs/{match[1]}.md; there is none.")
        return f'href="../../{match[1]}/'

    return re.sub(r'href="\.\./docs/([^"#]*)\.md', link, html)


class Formulas(griffe.Extension):
    """Turns the formulas of docstrings into MathML, which browsers draw by themselves."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is None:
            return
        text = _BLOCK.sub(lambda m: f"{m[1]}{_mathml(m[2], 'block')}\n", obj.docstring.value)
        text = re.sub(r":math:`([^`]*)`", lambda m: _mathml(m[1], "inline"), text)
        obj.docstring.value = re.sub(r":[a-z]+:`~?([^`]*)`", r"`\1`", text)


def _mathml(latex: str, display: Any) -> str:
    return convert(" ".join(latex.split()), display=display)


def _help(verb: str) -> str:
    """Return what ``hidden-context VERB --help`` prints."""
    printed = io.StringIO()
    module = importlib.import_module(f"hidden_context.cli.{verb}")
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        module.main(["--help"])
    return printed.getvalue()
