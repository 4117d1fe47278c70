"""What the pages have in common: one self-contained HTML file that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from probface.storage import write_bytes

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
"""
"""Faces are no food for search engines; the policy keeps the promise that nothing is fetched and nothing else runs."""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, body: str, *, styles: tuple[str, ...], script: str | None = None) -> str:
    """A whole HTML document; any text in it can be encoded as UTF-8.

    Args:
        title: HTML.
        body: HTML, what stands in ``main``.
        styles: names of style sheets of this room, later ones over earlier ones.
        script: name of the one script of this room that may run; the policy names its digest.
    """
    style = "".join(_part(name) for name in styles)
    code = "" if script is None else _part(script)
    head = HEAD.format(policy=POLICY if script is None else f"{POLICY}; script-src '{_digest(code)}'")
    ending = "" if script is None else f"<script>{code}</script>\n"
    return (
        f"{head}<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n{ending}</body>\n</html>\n"
    )


def write_page(text: str, path: Path) -> None:
    """Write a page whole or not at all, as UTF-8; raises StorageError."""
    write_bytes(path, text.encode("utf-8"))


def _part(name: str) -> str:
    return resources.files("probface.report").joinpath(name).read_text(encoding="utf-8")


def _digest(code: str) -> str:
    """What a Content-Security-Policy calls a script that stands in the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
