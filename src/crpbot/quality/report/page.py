"""What every page shares: one file that stands alone, readable by day, by night and on paper."""

from collections.abc import Iterable
from html import escape

from crpbot.quality.report.svg import Chart

STYLE = """
:root{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--soft:#59636e;--rule:#d1d9e0;--panel:#f6f8fa;
--down:#b35900;--neutral:#6e7781;--up:#0b62c4;--good:#1a7f37;--bad:#c62828}
@media (prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--soft:#9198a1;--rule:#3d444d;--panel:#151b23;--down:#f0883e;
--neutral:#9198a1;--up:#58a6ff;--good:#3fb950;--bad:#ff7b72}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1000px;margin:0 auto;padding:1.5rem 1rem}
h1{font-size:1.5rem}h2{margin-top:2.5rem;border-top:1px solid var(--rule);padding-top:1.5rem}p.soft,small{color:var(--soft)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--rule);vertical-align:top}
.wide{overflow-x:auto}.good{color:var(--good)}.bad{color:var(--bad)}.verdict{font-size:1.1rem;font-weight:600}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:1rem;margin:1rem 0}
.pictures.wide-only{max-width:640px}.short{white-space:nowrap}
.pictures.small{grid-template-columns:repeat(auto-fill,minmax(min(300px,100%),1fr))}
figure{margin:0;background:var(--panel);border-radius:8px;padding:.6rem}figcaption{font-size:.88rem;color:var(--soft)}
svg{width:100%;height:auto;display:block}svg text{font-size:11px;fill:var(--soft)}
.grid{stroke:var(--rule);stroke-width:.6}.line{fill:none;stroke-width:1.8}.bar{stroke-width:1.2}.steps{fill-opacity:.25;stroke-width:1.4}
.ideal{stroke:var(--soft);stroke-dasharray:4 4}.up,.line.up{stroke:var(--up)}.down,.line.down{stroke:var(--down)}
.neutral,.line.neutral{stroke:var(--neutral)}.dot.up,.steps.up,.key.up{fill:var(--up)}.dot.down,.steps.down,.key.down{fill:var(--down)}
.steps.neutral,.key.neutral{fill:var(--neutral)}code{font-size:.85em;overflow-wrap:anywhere}
.cause{background:var(--panel);border-left:4px solid var(--bad);padding:.6rem 1rem;margin:.8rem 0}
.cause.warning{border-color:var(--down)}
@media print{h2{break-before:page}figure,.cause{break-inside:avoid}}
"""


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page; `title` is escaped, `body` is not."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>{''.join(body)}</body></html>\n"
    )


def figure(chart: Chart, caption: str) -> str:
    """Return a picture with its caption, which begins with the title of the chart."""
    return f"<figure>{chart}<figcaption><b>{escape(chart.title)}.</b> {escape(caption)}</figcaption></figure>"
