"""Give every module that a page links to a page with its source, so that links to functions are checked and cannot rot.

Formulas become MathML: browsers show that without a script.
"""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OPTIONS = "    options: {filters: [], show_if_no_docstring: true, heading_level: 1, show_source: true}"


def linked_modules(docs: Path) -> list[str]:
    """Return the modules with a function or class that a page links to, as in ``[text][streamrde.module.function]``."""
    found = set()
    for page in docs.glob("*.md"):
        for name in re.findall(r"\]\[(streamrde(?:\.\w+)+)\]", page.read_text(encoding="utf-8")):
            parts = name.split(".")
            for end in range(len(parts), 1, -1):
                path = ROOT.joinpath(*parts[:end])
                if path.with_suffix(".py").exists() or path.joinpath("__init__.py").exists():
                    found.add(".".join(parts[:end]))
                    break
    return sorted(found)


def on_config(config: MkDocsConfig, **_: Any) -> None:
    """Put pages that the navigation does not name, and then the modules, at its end."""
    docs = Path(config.docs_dir)
    others = [page.name for page in sorted(docs.glob("*.md")) if page.name not in str(config.nav)]
    modules = [{name.removeprefix("streamrde."): f"modules/{name}.md"} for name in linked_modules(docs)]
    sections = {"More": others, "Modules": modules}
    config.nav = [*(config.nav or []), *({title: pages} for title, pages in sections.items() if pages)]


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> None:
    """Add a page per module."""
    for name in linked_modules(Path(config.docs_dir)):
        files.append(File.generated(config, f"modules/{name}.md", content=f"::: {name}\n{OPTIONS}\n"))


def on_page_content(content: str, **_: Any) -> str:
    """Replace formulas by MathML."""
    content = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', lambda m: convert(html.unescape(m[1])), content)
    return re.sub(
        r'<div class="arithmatex">\\\[(.*?)\\\]</div>',
        lambda m: convert(html.unescape(m[1]), display="block"),
        content,
        flags=re.DOTALL,
    )
