"""What every page shares: one file that stands alone, readable by day, by night, on a phone and on paper."""

import re
from collections.abc import Iterable
from html import escape

from crpbot.quality.report.svg import Chart

STYLE = """
:root{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--soft:#59636e;--rule:#d1d9e0;--panel:#f6f8fa;
--down:#a85300;--neutral:#67707a;--up:#0b62c4;--good:#1a7f37;--bad:#c62828;--sound:#aeb6bf}
@media (prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--soft:#9ea7b1;--rule:#3d444d;--panel:#151b23;--down:#f0883e;
--neutral:#9198a1;--up:#58a6ff;--good:#3fb950;--bad:#ff7b72;--sound:#59626d}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--fg);background:var(--bg);
max-width:1040px;margin:0 auto;padding:1.5rem 1rem 4rem;overflow-wrap:break-word}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 1rem;letter-spacing:-.01em}
h2{font-size:1.4rem;line-height:1.25;margin:3rem 0 .8rem;border-top:1px solid var(--rule);padding-top:1.6rem;
scroll-margin-top:3rem}
h3{font-size:1.12rem;margin:2.2rem 0 .6rem}p{margin:.6rem 0;max-width:75ch}p.soft,small,.soft{color:var(--soft)}
p.soft{font-size:.9rem}a{color:var(--up)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{text-align:left;padding:.4rem .7rem;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:.85rem}td.value{white-space:nowrap}td.deeper{padding-left:1.6rem;color:var(--soft)}
.wide{overflow-x:auto;margin:.6rem 0}.wide:focus-visible{outline:2px solid var(--up);outline-offset:2px}
.good{color:var(--good)}.bad{color:var(--bad)}.verdict{font-size:1.15rem;font-weight:600;line-height:1.4}
.badge{display:inline-block;font-size:.78rem;font-weight:700;letter-spacing:.06em;border:1.5px solid currentColor;
border-radius:5px;padding:.05rem .45rem;margin-right:.5rem;vertical-align:.1em;white-space:nowrap}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.6rem;margin:1.1rem 0}
.tiles>div{background:var(--panel);border-radius:8px;padding:.6rem .8rem}.tiles dt{font-size:.82rem;color:var(--soft)}
.tiles dd{margin:0;font-size:1.3rem;font-weight:600;line-height:1.3;font-variant-numeric:tabular-nums}
.tiles dd.soft{font-size:.82rem;font-weight:400}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(400px,100%),1fr));gap:1rem;margin:1rem 0}
.pictures.wide-only{max-width:640px}.short{white-space:nowrap}
.pictures.small{grid-template-columns:repeat(auto-fill,minmax(min(300px,100%),1fr))}
figure{margin:0;background:var(--panel);border-radius:8px;padding:.8rem}figcaption{font-size:.88rem;color:var(--soft);margin-top:.3rem}
figcaption b{color:var(--fg)}
svg{width:100%;height:auto;display:block}svg text{font-size:11px;fill:var(--soft)}svg text.strong{font-size:14px;fill:var(--fg)}
.grid{stroke:var(--rule);stroke-width:.6}.line{fill:none;stroke-width:1.8}.bar{stroke-width:1.2}
.steps{fill-opacity:.25;stroke-width:1.4}
.band{fill-opacity:.16;stroke:none}.line.ideal{stroke:var(--soft);stroke-dasharray:4 4}.line.dashed{stroke-dasharray:5 4}
.up,.line.up{stroke:var(--up)}.down,.line.down{stroke:var(--down)}.neutral,.line.neutral{stroke:var(--neutral)}
.dot.up,.steps.up,.key.up,.band.up,.heat.up{fill:var(--up)}.dot.down,.steps.down,.key.down,.band.down,.heat.down{fill:var(--down)}
.dot.neutral,.steps.neutral,.key.neutral,.band.neutral{fill:var(--neutral)}.heat,.key,.band.up,.band.down,.band.neutral{stroke:none}
.steps.sound{fill:var(--sound);fill-opacity:.45;stroke:var(--sound);stroke-width:.8}.key.sound{fill:var(--sound)}
code{font:.88em ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.cause{background:var(--panel);border-left:4px solid var(--bad);border-radius:0 8px 8px 0;padding:.8rem 1rem;margin:.8rem 0;
display:grid;grid-template-columns:minmax(0,1fr);gap:.4rem 1.4rem}
.cause.warning{border-color:var(--down)}.cause h4{margin:0;font-size:1.02rem}.cause h4 small{font-weight:400}
.cause p{margin:.3rem 0}.cause figure{padding:0;max-width:380px}.cause details{margin-top:.4rem}
summary{cursor:pointer;color:var(--soft)}
@media (min-width:760px){.cause.proven{grid-template-columns:minmax(0,1fr) 320px}}
.contents{position:sticky;top:0;z-index:1;background:var(--bg);border-bottom:1px solid var(--rule);display:flex;gap:.2rem 1.1rem;
overflow-x:auto;white-space:nowrap;padding:.5rem 0;font-size:.9rem}
.models{list-style:none;padding:0}.models li{padding:.45rem 0;border-bottom:1px solid var(--rule)}
footer{margin-top:3rem;border-top:1px solid var(--rule);padding-top:.8rem;color:var(--soft);font-size:.88rem}
@media (max-width:520px){svg text{font-size:13px}h1{font-size:1.4rem}h2{font-size:1.22rem}th,td{padding:.35rem .5rem}}
@media print{@page{margin:14mm}body{max-width:none;padding:0;font-size:10.5pt}h2{break-before:page;border:0;padding-top:0}
h3,h4{break-after:avoid}figure,.cause,tr,.tiles{break-inside:avoid}.contents{display:none}.wide{overflow:visible}
.pictures{grid-template-columns:1fr 1fr}details.more::details-content{content-visibility:visible;display:block}
.tiles{grid-template-columns:repeat(5,1fr)}.tiles dd{font-size:1.1rem}a{color:inherit}
.short,td.value{white-space:normal}.cause.proven{grid-template-columns:minmax(0,1fr) 290px}}
"""
"""The one style sheet of pictures and tables."""
_CODE = re.compile("`([^`]*)`")


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page; `title` is escaped, `body` is not."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>{''.join(body)}</body></html>\n"
    )


def figure(chart: Chart, caption: str) -> str:
    """Return a picture with its caption, which begins with the title of the chart."""
    return captioned(str(chart), chart.title, caption)


def captioned(picture: str, title: str, caption: str) -> str:
    """Return a picture, which is markup, with its title and caption, which are text."""
    return f"<figure>{picture}<figcaption><b>{escape(title)}.</b> {words(caption)}</figcaption></figure>"


def words(text: str) -> str:
    """Return text as markup: what stands between `backticks` is code, and no number leaves its per cent sign alone."""
    return _CODE.sub(r"<code>\1</code>", escape(text)).replace(" %", "&nbsp;%")


def scroller(table: str, label: str) -> str:
    """Return a table in a box of its own, that scrolls where the table is wider than the page, by finger and by key."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">{table}</div>'
