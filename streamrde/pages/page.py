"""Build one self-contained HTML page: sections, tables, tiles, and the style of the charts."""

from __future__ import annotations

import html
from collections.abc import Sequence

# Okabe and Ito's colours, safe for the colour-blind. On dark paper the lighter ones come first.
_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2128;--soft:#5b6570;--grid:#e4e8ec;--tile:#f5f7f9;--alarm:#fff4e0;
--c0:#8a949e;--c1:#0072b2;--c2:#d55e00;--c3:#009e73;--c4:#cc79a7;--c5:#e69f00;--c6:#56b4e9}
@media screen and (prefers-color-scheme:dark){:root{--paper:#12161b;--ink:#e4e8ec;--soft:#98a3ae;--grid:#2a3138;
--tile:#1a2027;--alarm:#3a2d10;--c0:#77828c;--c1:#56b4e9;--c2:#f0803c;--c3:#2fc19a;--c4:#e09cc4;--c5:#f0b429;--c6:#8fd0f5}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.5rem 4rem;max-width:1120px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}
h2{font-size:1.15rem;margin:2.6rem 0 .4rem;padding-top:.9rem;border-top:1px solid var(--grid)}
h3{font-size:.95rem;margin:1.2rem 0 .3rem}
p{margin:.3rem 0 .8rem;max-width:75ch}
.lead{font-size:1.1rem;margin:.6rem 0 .2rem}.lead+.lead{font-size:1rem;color:var(--soft)}
.soft,figcaption{color:var(--soft)}
.alarm{background:var(--alarm);border-left:4px solid var(--c5);padding:.5rem .8rem;border-radius:3px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.7rem;margin:1.2rem 0}
.tile{background:var(--tile);border-radius:6px;padding:.6rem .8rem}
.tile b{display:block;font-size:1.35rem;line-height:1.3;font-weight:600}
.tile span{color:var(--soft);font-size:.85rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:1.2rem 1.6rem;
margin:.6rem 0}
figure{margin:0;min-width:0}
figure>strong{font-size:.92rem;font-weight:600}
figcaption{font-size:.85rem}
svg{display:block;width:100%;height:auto;max-width:640px;overflow:visible}
svg text{fill:var(--soft);font-size:11.5px;font-family:inherit}
svg .title{fill:var(--ink);font-size:12px}
svg .legend{fill:var(--ink);font-size:12px}
svg .note{fill:var(--ink)}
.grid{stroke:var(--grid)}.axis,.tick{stroke:var(--soft)}
.line{fill:none;stroke:var(--c);stroke-width:1.9;stroke-linejoin:round;stroke-linecap:round}
.dashed{stroke-dasharray:5 4}
.rule{stroke:var(--c);stroke-dasharray:2 3}
.band{fill:var(--c);opacity:.17}.bar{fill:var(--c);opacity:.75}.dot{fill:var(--c);fill-opacity:.6}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}
.c6{--c:var(--c6)}
.wide{overflow-x:auto;margin:.5rem 0 1rem}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;white-space:nowrap;color:var(--soft);padding:0 0 .3rem}
th,td{padding:.22rem .7rem .22rem 0;text-align:left;vertical-align:top}
thead th{color:var(--soft);font-weight:500;border-bottom:1px solid var(--soft)}
tbody th{font-weight:500;white-space:nowrap}
tbody tr+tr>*{border-top:1px solid var(--grid)}
.n{text-align:right;padding-right:1.2rem;white-space:nowrap}
td.long{overflow-wrap:anywhere}
.matrix th,.matrix td{padding:.3rem .5rem;text-align:center;border:1px solid var(--paper)!important;min-width:3.2em}
.matrix tbody th{text-align:right;border:0}
.matrix td{background:color-mix(in srgb,var(--c2) calc(var(--v)*75%),var(--tile))}
.matrix td.right{background:color-mix(in srgb,var(--c1) calc(var(--v)*60%),var(--tile))}
.matrix td.none{color:var(--soft)}
pre{background:var(--tile);border-radius:6px;padding:.7rem .9rem;overflow-x:auto;font-size:.85rem;margin:.3rem 0 .8rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:0 2rem}
@media print{html{font-size:12px}body{max-width:none;padding:0;font-size:11px}h2{margin-top:1.2rem}
h2,h3,h2+p,caption{break-after:avoid}
figure,table,.tiles{break-inside:avoid}.charts,.pair{grid-template-columns:1fr 1fr;gap:.6rem 1rem}
table{font-size:10px}*{print-color-adjust:exact}}
"""


def page(title: str, subtitle: str, parts: Sequence[str], *, data: str = "") -> str:
    """Return the whole page.

    Args:
        data: an HTML comment for programs, which nobody sees.
    """
    name = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name}</title><style>{_STYLE}</style></head>\n"
        f'<body><header><h1>{name}</h1><p class="soft">{html.escape(subtitle)}</p></header>\n<main>\n'
        + "\n".join(part for part in parts if part)
        + f"\n</main>{data}</body></html>\n"
    )


def section(title: str, text: str, *parts: str) -> str:
    """Return a section with a heading and a line on how to read it."""
    paragraph = f"<p>{html.escape(text)}</p>" if text else ""
    return f"<section><h2>{html.escape(title)}</h2>{paragraph}{''.join(parts)}</section>"


def tiles(figures: Sequence[tuple[str, str]]) -> str:
    """Return key figures as tiles, from pairs of a value and its name."""
    inner = "".join(f'<div class="tile"><b>{html.escape(v)}</b><span>{html.escape(k)}</span></div>' for v, k in figures)
    return f'<div class="tiles">{inner}</div>'


def lead(texts: Sequence[str]) -> str:
    """Return the sentences that open a page, the first of them larger."""
    return "".join(f'<p class="lead">{html.escape(text)}.</p>' for text in texts)


def listing(texts: Sequence[str]) -> str:
    """Return sentences as a numbered list, the first comes first."""
    return f"<ol>{''.join(f'<li>{html.escape(text)}.</li>' for text in texts)}</ol>"


def alarm(text: str) -> str:
    """Return a warning."""
    return f'<p class="alarm" role="note">{html.escape(text)}</p>'


def code(text: str) -> str:
    """Return lines of code or commands, which scroll sideways where they are too long."""
    return f"<pre><code>{html.escape(text)}</code></pre>"


def pair(*parts: str) -> str:
    """Place parts side by side where there is room."""
    return f'<div class="pair">{"".join(f"<div>{part}</div>" for part in parts if part)}</div>'


def charts(*figures: str) -> str:
    """Place charts side by side where there is room."""
    return f'<div class="charts">{"".join(figure for figure in figures if figure)}</div>'


def figure(title: str, chart: str, caption: str = "") -> str:
    """Return a chart with its title above and a caption below."""
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f"<figure><strong>{html.escape(title)}</strong>{chart}{below}</figure>"


def table(
    rows: Sequence[Sequence[str]], columns: Sequence[str] = (), *, caption: str = "", numbers: int = 0, last: int = 99
) -> str:
    """Return a table whose first column names the rows.

    Args:
        columns: headings. Leave them out for pairs of names and texts.
        numbers, last: the first and the last column of numbers, which are set to the right. 0: none.
    """

    def kind(i: int) -> str:
        return ' class="n"' if numbers and numbers <= i <= last else ' class="long"' if not columns else ""

    head = "".join(f'<th scope="col"{kind(i) if columns else ""}>{html.escape(c)}</th>' for i, c in enumerate(columns))
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td{kind(i)}>{html.escape(cell)}</td>" for i, cell in enumerate(row[1:], 1))
        + "</tr>"
        for row in rows
    )
    return _wide(f"<tr>{head}</tr>" if columns else "", body, caption)


def matrix(counts: Sequence[Sequence[int]], labels: Sequence[str], *, caption: str) -> str:
    """Return a confusion matrix: a row per true class, shaded by its share of the row, and the recall of each class."""
    head = "".join(f'<th scope="col">{html.escape(label)}</th>' for label in labels)
    body = []
    for i, (label, row) in enumerate(zip(labels, counts, strict=True)):
        total = sum(row)
        cells = []
        for j, count in enumerate(row):
            share = count / total if total else 0.0
            name = "right" if i == j else "none" if not count else "wrong"
            hint = f"{label} called {labels[j]}: {count:,} of {total:,}"
            cells.append(f'<td class="{name}" style="--v:{share:.3f}" title="{html.escape(hint)}">{count:,}</td>')
        recall = f"{row[i] / total:.1%}" if total else "-"
        body.append(f'<tr><th scope="row">{html.escape(label)}</th>{"".join(cells)}<th class="n">{recall}</th></tr>')
    top = f'<tr><th scope="col">true \\ said</th>{head}<th scope="col" class="n">recall</th></tr>'
    return _wide(top, "".join(body), caption, kind=' class="matrix"')


def _wide(head: str, body: str, caption: str, *, kind: str = "") -> str:
    above = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    top = f"<thead>{head}</thead>" if head else ""
    return f'<div class="wide"><table{kind}>{above}{top}<tbody>{body}</tbody></table></div>'
