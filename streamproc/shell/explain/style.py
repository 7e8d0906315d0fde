"""How the page looks, and the little that moves in it: no font, script or picture from elsewhere.

Four hues that stay apart for every kind of colour blindness (checked with simulated vision, on both grounds), each
solid, dashed and dotted; the map goes from blue to red at the limit, and its lightness only one way.
"""

STYLE = """
:root { --ink: #1b1f24; --soft: #59626d; --ground: #fff; --panel: #f5f6f8; --rule: #dfe3e8; --band: #c9ced5;
  --s0: #0077bb; --s1: #dd6600; --s2: #7a22dd; --s3: #6b3d12; --limit: #b3261e;
  --h0: #eef0f3; --h1: #dbe4ee; --h2: #b9cde3; --h3: #ffc04d; --h4: #f0803c; --h5: #c2371e; --h6: #6a0a2c;
  --hatch: #b5bcc5; --first: #000 }
@media screen and (prefers-color-scheme: dark) { :root {
  --ink: #e4e7ea; --soft: #9aa4af; --ground: #15181c; --panel: #1d2127; --rule: #31373f; --band: #434b55;
  --s0: #55bbee; --s1: #ff9a1f; --s2: #a566ff; --s3: #e8e0c8; --limit: #ff7a6e;
  --h0: #1d2229; --h1: #283442; --h2: #3a5370; --h3: #a36a12; --h4: #de8530; --h5: #f7bd5e; --h6: #fff3cf;
  --hatch: #566070; --first: #fff; color-scheme: dark } }
* { box-sizing: border-box }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 68rem; padding: 1.2rem 1rem 5rem;
  color: var(--ink); background: var(--ground) }
h1 { font-size: 1.35rem; line-height: 1.3; margin: .2rem 0 .4rem } h2 { font-size: 1.05rem; margin: 2rem 0 .2rem }
p { margin: .3rem 0; max-width: 60rem } .soft, figcaption, caption { color: var(--soft); font-size: .87rem }
.note { border-left: 4px solid var(--s1); padding: .15rem .6rem; background: var(--panel) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0 } caption { text-align: left }
th, td { padding: .22rem .7rem .22rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule) }
th { font-weight: 600 } .facts th { white-space: nowrap; padding-right: 1.4rem } .facts { width: 100% }
.n { text-align: right } td.n { white-space: nowrap } .scroll { overflow-x: auto }
code { font: .86em/1.5 ui-monospace, monospace; background: var(--panel); padding: .08rem .3rem; overflow-wrap: anywhere }
.chance { display: inline-block; height: .62rem; background: var(--s0); vertical-align: baseline; margin-right: .4rem }
.chances td { border: 0; padding-top: 0; padding-bottom: 0 } .chances { margin: .2rem 0 }
figure { margin: .3rem 0 .6rem } .plot { width: 100%; height: auto; display: block; overflow: visible }
.small { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: .8rem .5rem }
.plot text { font: 11px system-ui, sans-serif; fill: var(--soft) } .plot .name { fill: var(--ink) }
.plot .word { fill: var(--ink); font-weight: 600 }
.end { text-anchor: end } .mid { text-anchor: middle }
.plot path { fill: none; vector-effect: non-scaling-stroke } .plot .grid { stroke: var(--rule) }
.plot .line { stroke-width: 1.5; stroke-linejoin: round; stroke-linecap: round }
.plot .lead { stroke: var(--soft); stroke-width: .6 }
.plot .c0 { stroke: var(--s0) } .plot .c1 { stroke: var(--s1) } .plot .c2 { stroke: var(--s2) }
.plot .c3 { stroke: var(--s3) } .plot .d1 { stroke-dasharray: 6 3 } .plot .d2 { stroke-dasharray: .5 3.5; stroke-width: 2 }
.plot .faint { stroke: var(--band); stroke-width: 1 }
.plot .band { fill: var(--band); stroke: var(--band); stroke-width: .5 }
.plot .limit { stroke: var(--limit); stroke-width: 1.2; stroke-dasharray: 5 3 }
.plot .mark { stroke: var(--ink); stroke-width: 1.2 } .plot .told { stroke-dasharray: 3 2 } .plot text.told { stroke: none }
.plot .cursor { stroke: var(--soft); stroke-width: 1 }
.plot .forecast { fill: var(--s0); fill-opacity: .16; stroke: var(--s0); stroke-width: 1 }
.plot .early { fill-opacity: .07; stroke-dasharray: 4 3 }
.plot .center { stroke: var(--s0); stroke-width: 2 }
.map path { shape-rendering: crispEdges } .plot .hatch { stroke: var(--hatch); stroke-width: 1 }
.plot .h0 { fill: var(--h0) } .plot .h1 { fill: var(--h1) } .plot .h2 { fill: var(--h2) } .plot .h3 { fill: var(--h3) }
.plot .h4 { fill: var(--h4) } .plot .h5 { fill: var(--h5) } .plot .h6 { fill: var(--h6) } .plot .h7 { fill: url(#hatch) }
.plot .first { stroke: var(--first); stroke-width: 1.6 }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .87rem; color: var(--soft) }
.legend svg.plot { display: inline-block; width: 1.6rem; height: .8rem; vertical-align: -1px; margin-right: .3rem }
#readout { position: fixed; left: 0; right: 0; bottom: 0; padding: .35rem 1rem; background: var(--panel); display: none;
  border-top: 1px solid var(--rule); font-size: .82rem; font-variant-numeric: tabular-nums }
figure { overflow-x: auto; overflow-y: hidden } figure .plot { min-width: 38rem } .small .plot { min-width: 0 }
@media print { body { font-size: 10pt; padding: 0; max-width: none; print-color-adjust: exact }
  figure { overflow: visible; break-inside: avoid } figure .plot { min-width: 0 } tr { break-inside: avoid }
  .small { grid-template-columns: 1fr 1fr } h2 { break-after: avoid } #readout { display: none } }
"""

# Written without the less-than sign and the ampersand, so that the page is XML, too.
SCRIPT = """
(function () {
  "use strict";
  var onset = Number(document.body.getAttribute("data-onset-ms"));
  var out = document.getElementById("readout");
  var plots = Array.prototype.slice.call(document.querySelectorAll("svg.plot"));
  function axis(svg, name) {
    var w = (svg.getAttribute("data-" + name) || "").split(" ");
    return { low: Number(w[0]), high: Number(w[1]), start: Number(w[2]), stop: Number(w[3]), log: w[4] === "log" };
  }
  function value(a, px) {
    var r = (px - a.start) / (a.stop - a.start);
    return a.log ? a.low * Math.pow(a.high / a.low, r) : a.low + r * (a.high - a.low);
  }
  function points(path) {
    if (path.known) { return path.known; }
    var found = [], x = 0, y = 0, kind = "", had = null;
    (path.getAttribute("d").match(/[MlhHVz]|-?[0-9]+/g) || []).forEach(function (word) {
      if (/[MlhHVz]/.test(word)) { kind = word; had = null; return; }
      if (kind === "h") { return; }
      if (had === null) { had = Number(word); return; }
      x = kind === "M" ? had : x + had; y = kind === "M" ? Number(word) : y + Number(word);
      had = null; found.push([x / 10, y / 10, kind === "M"]);
    });
    path.known = found;
    return found;
  }
  function level(path, px) {
    var all = points(path), i = all.findIndex(function (p) { return p[0] >= px; });
    if (i > 0) {
      var a = all[i - 1], b = all[i];
      if (b[2]) { return b[0] - px > 3 ? null : b[1]; }
      return b[0] > a[0] ? a[1] + (b[1] - a[1]) * (px - a[0]) / (b[0] - a[0]) : b[1];
    }
    return null;
  }
  function show(svg, event) {
    var box = svg.getBoundingClientRect(), wide = svg.viewBox.baseVal.width;
    var px = (event.clientX - box.left) * wide / box.width, x = axis(svg, "x"), y = axis(svg, "y");
    if (px > x.stop || x.start > px) { return; }
    var t = value(x, px);
    var words = ["t = " + t.toFixed(3) + " s, " + new Date(onset + t * 1000).toISOString()];
    svg.querySelectorAll("path.line[data-name]").forEach(function (path) {
      var at = level(path, px);
      if (at !== null) {
        words.push(path.getAttribute("data-name") + " " + value(y, at).toPrecision(5) + " " + svg.getAttribute("data-unit"));
      }
    });
    out.textContent = words.slice(0, 14).join(" | ");
    out.style.display = "block";
    plots.forEach(function (other) {
      var own = axis(other, "x"), at = own.start + (t - own.low) / (own.high - own.low) * (own.stop - own.start);
      if (!other.cursor) {
        other.cursor = document.createElementNS(svg.namespaceURI, "path");
        other.cursor.setAttribute("class", "cursor");
        other.appendChild(other.cursor);
      }
      var inside = !(own.start > at || at > own.stop);
      other.cursor.setAttribute("d", inside ? "M" + at + " 20V" + (other.viewBox.baseVal.height - 24) : "");
    });
  }
  plots.forEach(function (svg) { svg.addEventListener("pointermove", function (event) { show(svg, event); }); });
})();
"""
