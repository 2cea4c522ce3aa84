"""After Quarto's render: search.json without the TeX of each formula, a list for language models, marks on the pages.

_quarto.yml names it as `project: post-render`; Quarto runs it in the folder that it renders (_proc). The preview takes `mathml` from here.
"""

import html
import json
import os
import re
from pathlib import Path

NAME, SCRIPT = r"<mi[^>]*>\w{2,}</mi>", r"(?:<m[ino][^>]*>[^<]*</m[ino]>)"
APPLY, SPACE = r"<mo>(?:&#8289;|\u2061)</mo>", '<mspace width="0.17em"></mspace>'
OPENS = r"(?!</m|<m(?:o|row><mo)[^>]*>[(\[|])"  # no room before a bracket, or where a function stands alone


def mathml(page: str) -> str:
    "Formulas as TeX sets them: a little room after a function's name, its exponent beside it, a prime as large as its letter."
    page = re.sub(rf"(<m(?:sup|sub|subsup)>)<mrow>({NAME}){APPLY}</mrow>", r"\1\2", page)
    page = re.sub(rf"(<m(?:sup|sub)>{NAME}{SCRIPT}</m(?:sup|sub)>){OPENS}(?!<mspace)", rf"\1{SPACE}", page)
    page = re.sub(rf"{APPLY}(</mrow>)?{OPENS}(?!<mspace)", rf"<mo>&#8289;</mo>{SPACE}\1", page)
    return re.sub(r"<msup>(<mi[^>]*>\w+</mi>)<mo[^>]*>(′+|″)</mo></msup>", r'<mrow>\1<mo lspace="0" rspace="0">\2</mo></mrow>', page)


def text(fragment: str) -> str:
    return re.sub(r"\s*\n\s*", "\n", html.unescape(re.sub(r"<!--.*?-->|<[^>]+>", "", fragment, flags=re.S))).strip()


def sections(name: str, page: str) -> dict[str, tuple[str, str]]:
    "{address: (text, heading)} of each section of a page; of a formula only what is seen (its TeX stands beside it in the page)."
    main = page.partition("<main")[2].partition(">")[2].partition("</main>")[0]
    unseen = r"<annotation.*?</annotation>|<script.*?</script>|<style.*?</style>|<header id=\"title-block.*?</header>"
    main = re.sub(unseen, "", main, flags=re.S)
    first, *rest = re.split(r'<section id="([^"]+)" class="(?:[^"]* )?level2[^"]*"[^>]*>', main)
    found = {name: (text(first), "")}
    for anchor, part in zip(rest[::2], rest[1::2]):
        heading, _, body = part.partition("</h2>") if "</h2>" in part else ("", "", part)
        found[f"{name}#{anchor}"] = text(body), text(heading)
    return found


def mend_search(out: Path, pages: dict[str, str]) -> None:
    if not (out / "search.json").exists(): return
    index, found = json.loads((out / "search.json").read_text(encoding="utf-8")), {}
    for name, page in pages.items(): found |= sections(name, page)
    for entry in index:
        if entry["href"] not in found: continue
        body, entry["section"] = found[entry["href"]]
        entry["text"] = html.escape(f'{entry["section"]}\n{body}'.strip())
    (out / "search.json").write_text(json.dumps(index, ensure_ascii=False, indent=1), encoding="utf-8")


def mend_llms(out: Path, pages: dict[str, str]) -> None:
    "nbdev names 04_optim.ipynb's page optim.html, and Quarto writes 04_optim.llms.md: one name for both, and every page in the list."
    for path in out.glob("[0-9]*_*.llms.md"): path.rename(out / re.sub(r"^\d+[a-z]?_", "", path.name))
    llms = out / "llms.txt"
    order = re.findall(r'<a href="\./([\w-]+)\.html" class="sidebar-item-text', pages.get("index.html", ""))
    if not llms.exists() or not order: return
    named = lambda pattern, page: html.unescape((re.search(pattern, page) or [0, ""])[1])
    lines = []
    for stem in dict.fromkeys(order):
        page = pages.get(f"{stem}.html", "")
        if not page or not (out / f"{stem}.llms.md").exists(): continue
        title, about = named(r"<title>(.*?)(?: – [^<]*)?</title>", page), named(r'<meta name="description" content="([^"]*)"', page)
        lines.append(f"- [{title}]({stem}.llms.md)" + (f": {about}" if about else ""))
    head = llms.read_text(encoding="utf-8").partition("## Pages")[0]
    llms.write_text(f"{head}## Pages\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


def marked(page: str) -> str:
    "A page with a link past the navigation, the present page marked in it, and its formulas mended."
    if 'class="skip"' not in page:
        page = re.sub(r"(<body[^>]*>)", r'\1\n<a class="skip" href="#quarto-document-content">Skip to the text</a>', page, count=1)
        page = page.replace('<main class="content"', '<main tabindex="-1" class="content"', 1)
    page = re.sub(r'(class="sidebar-item-text sidebar-link active")(?! aria)', r'\1 aria-current="page"', page)
    return mathml(page)


def main() -> None:
    out = Path(os.environ.get("QUARTO_PROJECT_OUTPUT_DIR", "_docs"))
    pages = {path.name: path.read_text(encoding="utf-8") for path in sorted(out.glob("*.html"))}
    mend_search(out, pages)
    mend_llms(out, pages)
    for name, page in pages.items():
        if (new := marked(page)) != page: (out / name).write_text(new, encoding="utf-8")


if __name__ == "__main__": main()
