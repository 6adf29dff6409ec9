"""Reading a page back: its headings, what it loads, its text, its tables."""

from collections.abc import Collection
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Fails on tags that do not close in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.headings: list[int] = []
        self.assets: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(self.html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        self.assets += [v for k in ("src", "href", "data", "action", "xlink:href") if (v := values.get(k))]
        if tag in {"h1", "h2", "h3", "h4"}:
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"closed but never opened: {tag}"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def check(self, links: Collection[str] = ()) -> None:
        """What holds for every page we make; `links` are to other pages of the same run."""
        assert self.headings[0] == 1
        assert self.headings.count(1) == 1
        assert all(b <= a + 1 for a, b in zip(self.headings, self.headings[1:], strict=False))
        inside = [asset for asset in self.assets if asset not in links]
        assert all(asset.startswith("#") for asset in inside), inside
        assert "url(" not in self.html
        assert "@import" not in self.html
        assert not [tag for tag, _ in self.tags if tag in {"script", "link", "iframe", "img", "object"}]
        assert self.text.count("Research use only — never a bedside device") >= 2
        ids = [values["id"] for _, values in self.tags if values.get("id")]
        assert len(ids) == len(set(ids)), "an id stands twice"
        for _, values in self.tags:
            named = (values.get("aria-labelledby") or "").split()
            assert set(named) <= set(ids), f"label points nowhere: {named}"
        assert all(asset[1:] in ids for asset in inside)
        tables = [tag for tag, _ in self.tags if tag == "table"]
        assert len(tables) == len([tag for tag, _ in self.tags if tag == "caption"])
        assert all(values.get("scope") for tag, values in self.tags if tag == "th")
        for tag, values in self.tags:
            if tag == "svg":
                assert values.get("role") == "img"
                assert values.get("aria-labelledby")
        assert len(self.html.encode()) < 1_000_000
