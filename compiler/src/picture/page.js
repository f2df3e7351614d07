"use strict";
// Draws from the data what can be walked through. Text only ever enters as text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.targets.length) return;
  const SVG = "http://www.w3.org/2000/svg";
  const state = { target: 0, entry: 0, by: "bytes", open: new Set(), launch: null, focus: null, tab: null };
  const byId = (id) => document.getElementById(id);
  const flow = byId("flow");

  // -- Elements ---------------------------------------------------------------------------------------------------
  const fill = (node, attributes, children) => {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key.startsWith("--")) node.style.setProperty(key, value);
      else node.setAttribute(key, value === true ? "" : value);
    }
    for (const c of children.flat(3)) if (c !== null && c !== undefined) node.append(c);
    return node;
  };
  const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  // -- Figures ----------------------------------------------------------------------------------------------------
  const three = (v) => (v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2));
  const human = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (bytes >= 1024 && unit < 4) { bytes /= 1024; unit += 1; }
    return unit ? `${bytes.toFixed(1)} ${units[unit]}` : `${Math.round(bytes)} B`;
  };
  const time = (t) =>
    t >= 1 ? `${three(t)} s` : t >= 1e-3 ? `${three(t * 1e3)} ms` : t >= 1e-6 ? `${three(t * 1e6)} µs` : `${three(t * 1e9)} ns`;
  const count = (n) => {
    const prefixes = ["", " k", " M", " G", " T"];
    let at = 0;
    while (n >= 1000 && at < 4) { n /= 1000; at += 1; }
    return at ? three(n) + prefixes[at] : n.toFixed(0);
  };
  const WAYS = {
    bytes: { label: "bytes moved", style: "by-bytes", of: (l) => l.bytes, text: human },
    estimate: { label: "estimated time", style: "by-time", of: (l) => l.seconds, text: time },
    measured: { label: "measured time", style: "by-time", of: (l) => l.measured, text: time },
  };

  // -- What is shown ----------------------------------------------------------------------------------------------
  const target = () => data.targets[state.target];
  const entry = () => target().entries[state.entry];
  const kernelOf = (l, t = target()) => t.kernels[l.kernel];
  const way = () => WAYS[state.by];
  const has = (by) => entry().launches.some((l) => WAYS[by].of(l) !== null);
  const phaseOf = (l, t = target()) => {
    const k = kernelOf(l, t);
    return k.phases.length > 1 ? `.${k.phases[l.phase]}` : "";
  };
  const title = (l, t = target()) => kernelOf(l, t).name + phaseOf(l, t);
  const typeOf = (b) => `${b.dtype}[${b.shape.join(", ")}]`;
  /// Equal neighbours as one, with how many they are.
  const folded = (list) => {
    const out = [];
    for (const x of list) {
      if (out.length && out[out.length - 1][0] === x) out[out.length - 1][1] += 1;
      else out.push([x, 1]);
    }
    return out;
  };
  /// A long name may break behind its dots and commas.
  const breakable = (name) => name.split(/(?<=[.,])/).flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]));
  const wrote = (l, e, t) => l.buffers.filter((_, i) => kernelOf(l, t).access[i] !== "read").map((b) => e.buffers[b].name);

  /// Stretches of launches of one block.
  const runsOf = (e) => {
    const runs = [];
    e.launches.forEach((l, i) => {
      if (l.repetition === null) return;
      const last = runs[runs.length - 1];
      if (last && last.to === i && last.name === l.function) { last.to = i + 1; last.last = l.repetition; }
      else runs.push({ name: l.function, from: i, to: i + 1, first: l.repetition, last: l.repetition });
    });
    return runs;
  };
  /// For each launch the one that is shown for it, and the rows in order.
  const layout = () => {
    const e = entry();
    const shown = e.launches.map((_, i) => i);
    const rows = [];
    const runs = runsOf(e);
    for (const r of runs) {
      r.key = `${state.target}/${state.entry}/${r.from}`;
      r.times = r.last - r.first + 1;
      if (r.times > 1 && !state.open.has(r.key)) {
        const firsts = [];
        for (let i = r.from; i < r.to; i++) if (e.launches[i].repetition === r.first) firsts.push(i);
        const seen = new Map();
        for (let i = r.from; i < r.to; i++) {
          const n = e.launches[i].repetition;
          const at = seen.get(n) || 0;
          seen.set(n, at + 1);
          if (at < firsts.length) shown[i] = firsts[at];
        }
      }
    }
    e.launches.forEach((_, i) => {
      const run = runs.find((r) => r.from <= i && i < r.to);
      if (run && run.from === i) rows.push({ run });
      if (shown[i] === i) rows.push({ launch: i, run });
    });
    return { shown, rows };
  };

  /// The launches that a row stands for, and their mean: repetitions move the same bytes and take different times.
  const standsFor = (launch, shown) => entry().launches.filter((_, i) => shown[i] === launch);
  const mean = (launches) => {
    const values = launches.map(way().of).filter((v) => v !== null);
    return values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
  };
  const scale = () => {
    const { shown, rows } = layout();
    const values = rows.filter((r) => r.launch !== undefined).map((r) => mean(standsFor(r.launch, shown)));
    const high = Math.max(0, ...values.filter((v) => v !== null));
    // The root keeps small kernels apart beside one that is much larger.
    return { high, heat: (v) => `${(high > 0 ? 4 + 96 * Math.sqrt(v / high) : 0).toFixed(1)}%`, any: high > 0 };
  };

  // -- Controls ---------------------------------------------------------------------------------------------------
  const choice = (name, label, options, chosen, choose) =>
    h("fieldset", {}, h("legend", {}, label), h("div", { class: "choice" },
      options.map((o) => h("label", {},
        h("input", { type: "radio", name, value: o.value, checked: o.value === chosen, disabled: o.disabled, onchange: () => choose(o.value) }),
        h("span", {}, o.label)))));
  const controls = () => {
    const focused = document.activeElement && document.activeElement.name;
    const box = h("div", {});
    if (data.targets.length > 1) {
      box.append(choice("target", "Target", data.targets.map((t, i) => ({ value: String(i), label: t.name })), String(state.target), (v) => {
        const name = entry().name;
        state.target = Number(v);
        state.entry = Math.max(0, target().entries.findIndex((e) => e.name === name));
        change();
      }));
    }
    box.append(choice("entry", "Entry", target().entries.map((e, i) => ({ value: String(i), label: e.name })), String(state.entry), (v) => {
      state.entry = Number(v);
      change();
    }));
    const ways = Object.entries(WAYS).filter(([by]) => by !== "measured" || data.measured);
    box.append(choice("by", "Colour by", ways.map(([by, w]) => ({ value: by, label: w.label, disabled: !has(by) })), state.by, (v) => {
      state.by = v;
      draw();
    }));
    const sc = scale();
    if (sc.any) {
      box.append(h("div", { class: `legend ${way().style}`, role: "img", "aria-label": `Colour: ${way().label}, from 0 to ${way().text(sc.high)}` },
h("span", {}, "0"), h("i", { class: "low" }), h("span", {}, way().text(sc.high / 4)), h("i", { class: "high" }), h("span", {}, way().text(sc.high))));
    }
    byId("controls").replaceChildren(box);
    if (focused) { const again = box.querySelector(`input[name="${focused}"]:checked`); if (again) again.focus(); }
  };

  // -- The graph --------------------------------------------------------------------------------------------------
  const rowButtons = () => [...flow.querySelectorAll(".graph button")];
  const roving = (button) => rowButtons().forEach((b) => (b.tabIndex = b === button ? 0 : -1));
  const graph = () => {
    const e = entry();
    const { shown, rows } = layout();
    const sc = scale();
    const list = h("ol", { "aria-label": `Kernels of ${e.name} in launch order`, onkeydown: keys });
    for (const row of rows) {
      if (row.launch === undefined) {
        const r = row.run;
        const opened = state.open.has(r.key);
        const toggle = () => {
          if (opened) state.open.delete(r.key); else state.open.add(r.key);
          draw();
          const again = flow.querySelector(`[data-run="${r.from}"]`);
          if (again) { roving(again); again.focus(); }
        };
        list.append(h("li", {}, h("button", {
          class: "block", type: "button", tabindex: -1, "data-run": r.from, "aria-expanded": r.times > 1 ? String(opened) : null,
          onclick: r.times > 1 ? toggle : null,
        }, h("b", {}, r.name), h("span", {}, `×${r.times}`), h("span", {}, r.times < 2 ? "" : opened ? "fold" : `show all ${r.to - r.from}`))));
        continue;
      }
      const l = e.launches[row.launch];
      const k = kernelOf(l);
      const stands = standsFor(row.launch, shown);
      const v = mean(stands);
      const text = v === null ? "–" : way().text(v);
      const times = row.run && row.run.times > 1 && state.open.has(row.run.key) ? ` · ${l.repetition + 1} of ${row.run.last + 1}`
        : stands.length > 1 && state.by === "measured" ? ` · mean of ${stands.length}` : "";
      list.append(h("li", { class: row.run ? "inside" : null }, h("button", {
        class: "kernel", type: "button", tabindex: -1, "data-launch": row.launch, "--heat": v === null ? "0%" : sc.heat(v),
        "aria-expanded": String(state.launch === row.launch), "aria-controls": "detail",
        "aria-label": `Launch ${row.launch}: ${title(l)}, ${k.template}, ${way().label} ${text}`,
        onclick: (event) => open(row.launch, event.detail === 0 || narrow()),
        onfocus: () => { state.focus = row.launch; wires(); },
        onmouseenter: () => wires(row.launch), onmouseleave: () => wires(),
      }, h("span", { class: "at" }, row.launch), h("b", {}, title(l)), h("span", { class: "value" }, text),
        h("small", {}, `${k.template}${times} · ${k.fused.join(", ")}`))));
    }
    const box = h("div", { class: `graph ${way().style}` }, s("svg", { "aria-hidden": "true" }), list);
    const old = flow.querySelector(".graph");
    if (old) old.replaceWith(box); else flow.prepend(box);
    const start = flow.querySelector(`[data-launch="${state.launch ?? state.focus}"]`) || rowButtons()[0];
    if (start) roving(start);
    wires();
  };
  const keys = (event) => {
    const all = rowButtons();
    const at = all.indexOf(document.activeElement);
    if (at < 0) return;
    const here = all[at];
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      const next = all[Math.max(0, Math.min(all.length - 1, to))];
      roving(next);
      next.focus();
      // With the detail open beside the list, it follows.
      if (state.launch !== null && next.dataset.launch !== undefined && !narrow()) open(Number(next.dataset.launch), false);
    } else if (here.dataset.run !== undefined && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
      if ((here.getAttribute("aria-expanded") === "true") === (event.key === "ArrowLeft")) here.click();
      event.preventDefault();
    }
  };
  const narrow = () => window.matchMedia("(max-width: 1020px)").matches;

  /// Lines from kernel to kernel: a value runs down a lane of its own on the left, or straight where its reader is next.
  const wires = (hovered) => {
    const box = flow.querySelector(".graph");
    if (!box) return;
    const svg = box.querySelector("svg");
    const e = entry();
    const { shown, rows } = layout();
    const order = new Map();
    rows.forEach((r, i) => { if (r.launch !== undefined) order.set(r.launch, i); });
    const values = new Map();
    for (const edge of e.edges) {
      const from = shown[edge.from], to = shown[edge.to];
      if (from === to) continue;
      const again = order.get(to) < order.get(from);
      // What repetitions pass on is drawn once, from the shown one back to it.
      const hiddenInside = shown[edge.from] !== edge.from && shown[edge.to] !== edge.to && !again;
      if (hiddenInside) continue;
      const key = `${from}/${again}`;
      if (!values.has(key)) values.set(key, { from, again, to: new Set() });
      values.get(key).to.add(to);
    }
    const buttons = new Map(rowButtons().filter((b) => b.dataset.launch !== undefined).map((b) => [Number(b.dataset.launch), b]));
    const place = new Map();
    const outer = box.getBoundingClientRect();
    for (const [launch, b] of buttons) {
      const r = b.getBoundingClientRect();
      place.set(launch, { left: r.left - outer.left, top: r.top - outer.top, height: r.height });
    }
    const lanes = [];
    const far = [], near = [];
    for (const v of values.values()) {
      for (const to of [...v.to]) {
        const distance = Math.abs(order.get(to) - order.get(v.from));
        const blocked = distance === 2 && rows[Math.min(order.get(to), order.get(v.from)) + 1].launch === undefined;
        if (!v.again && (distance === 1 || blocked)) { near.push({ from: v.from, to }); v.to.delete(to); }
      }
      if (v.to.size) {
        const ends = [...v.to].map((t) => order.get(t)).concat(order.get(v.from));
        far.push({ ...v, low: Math.min(...ends), high: Math.max(...ends) });
      }
    }
    far.sort((a, b) => a.high - a.low - (b.high - b.low) || a.low - b.low || a.from - b.from);
    for (const v of far) {
      let lane = lanes.findIndex((taken) => taken.every((t) => v.high <= t.low || t.high <= v.low));
      if (lane < 0) { lane = lanes.length; lanes.push([]); }
      lanes[lane].push(v);
      v.lane = lane;
    }
    const step = Math.max(4, Math.min(10, 110 / Math.max(1, lanes.length)));
    const gutter = lanes.length ? Math.round(lanes.length * step + 16) : 4;
    if (box.style.paddingLeft !== `${gutter}px`) {
      box.style.paddingLeft = `${gutter}px`;
      if (!box.dataset.measured) { box.dataset.measured = "yes"; wires(hovered); return; }
    }
    const active = hovered ?? state.launch ?? (document.activeElement && document.activeElement.closest(".graph") ? state.focus : null);
    const kind = (from, to) => (active === null || active === undefined ? "" : from === active ? " out" : to === active ? " in" : " dim");
    const parts = [];
    const line = (d, tip, from, to, again) => {
      const k = kind(from, to);
      const part = [s("path", { class: `wire${again ? " again" : ""}${k}`, d }), s("path", { class: `tip${k}`, d: tip })];
      if (k === " in" || k === " out") parts.push(...part); else parts.unshift(...part);
    };
    for (const { from, to } of near) {
      const a = place.get(from), b = place.get(to);
      if (!a || !b) continue;
      const x = Math.max(a.left, b.left) + 22, y0 = a.top + a.height, y1 = b.top;
      line(`M${x} ${y0}V${y1 - 5}`, `M${x - 3.5} ${y1 - 6}h7l-3.5 6z`, from, to, false);
    }
    for (const v of far) {
      const a = place.get(v.from);
      if (!a) continue;
      const x = gutter - 12 - v.lane * step;
      const r = 5;
      for (const to of v.to) {
        const b = place.get(to);
        if (!b) continue;
        const y0 = a.top + a.height * 0.7, y1 = b.top + b.height * 0.32;
        const down = y1 > y0 ? 1 : -1;
        line(`M${a.left} ${y0}H${x + r}Q${x} ${y0} ${x} ${y0 + down * r}V${y1 - down * r}Q${x} ${y1} ${x + r} ${y1}H${b.left - 5}`,
          `M${b.left - 6} ${y1 - 3.5}v7l6 -3.5z`, v.from, to, v.again);
      }
    }
    for (const r of new Set(rows.map((x) => x.run).filter(Boolean))) {
      const inside = rows.filter((x) => x.run === r && x.launch !== undefined);
      const a = place.get(inside[0].launch), b = place.get(inside[inside.length - 1].launch);
      if (a && b) parts.push(s("path", { class: "brace", d: `M${gutter + 5} ${a.top - 6}V${b.top + b.height}` }));
    }
    svg.replaceChildren(...parts);
  };

  // -- The detail -------------------------------------------------------------------------------------------------
  const open = (launch, focus) => {
    if (state.launch !== launch) state.tab = null;
    state.launch = state.focus = launch;
    const { shown } = layout();
    if (shown[launch] !== launch) {
      const run = runsOf(entry()).find((r) => r.from <= launch && launch < r.to);
      state.open.add(`${state.target}/${state.entry}/${run.from}`);
      graph();
    }
    flow.querySelectorAll(".kernel").forEach((b) => b.setAttribute("aria-expanded", String(Number(b.dataset.launch) === launch)));
    const button = flow.querySelector(`[data-launch="${launch}"]`);
    if (button) { roving(button); button.scrollIntoView({ block: "nearest" }); }
    detail();
    wires();
    if (focus) { const heading = flow.querySelector("#detail h3"); heading.focus({ preventScroll: narrow() }); }
    document.querySelectorAll(".slot").forEach((x) => x.classList.toggle("on", Number(x.dataset.launch) === launch));
  };
  const close = () => {
    if (state.launch === null) return;
    const launch = state.launch;
    state.launch = null;
    flow.querySelectorAll(".kernel").forEach((b) => b.setAttribute("aria-expanded", "false"));
    document.querySelectorAll(".slot.on").forEach((x) => x.classList.remove("on"));
    detail();
    const button = flow.querySelector(`[data-launch="${launch}"]`);
    if (button) { roving(button); button.focus(); }
    wires();
  };
  const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter((p) => p && p[1] !== null && p[1] !== undefined)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

  const summary = () => {
    const e = entry();
    const totals = new Map();
    e.launches.forEach((l, i) => {
      const v = way().of(l);
      if (v === null) return;
      const known = totals.get(l.kernel) || { value: 0, launches: 0, first: i };
      known.value += v;
      known.launches += 1;
      totals.set(l.kernel, known);
    });
    const all = [...totals.entries()].sort((a, b) => b[1].value - a[1].value || a[0] - b[0]);
    const sum = (of) => e.launches.reduce((n, l) => (of(l) === null ? n : n + of(l)), 0);
    const most = all.length ? all[0][1].value : 1;
    const at = e.symbols.map((x) => `${x.name} = ${x.at}`).join(", ");
    return [
      h("h3", { id: "detail-title", tabindex: -1 }, e.name),
      h("p", { class: "about" }, `${e.launches.length} launches on ${target().name}${at ? `, counted at ${at}` : ""}`),
      facts([["Bytes moved", human(sum((l) => l.bytes))], has("estimate") ? ["Operations", count(sum((l) => l.flops))] : null,
        has("estimate") ? ["Estimated", time(sum((l) => l.seconds))] : null, has("measured") ? ["Measured", time(sum((l) => l.measured))] : null]),
      h("h4", {}, `Kernels by ${way().label}`),
      h("ol", { class: `bars ${way().style}` }, all.slice(0, 14).map(([k, v]) => h("li", {}, h("button", { type: "button", onclick: () => open(v.first, true) },
        h("b", {}, `${target().kernels[k].name}${v.launches > 1 ? ` ×${v.launches}` : ""}`), h("span", {}, h("i", { "--share": `${((100 * v.value) / most).toFixed(2)}%` })),
        h("span", {}, way().text(v.value)))))),
      all.length > 14 ? h("p", { class: "remark" }, `and ${all.length - 14} kernels with less`) : null,
      h("p", { class: "remark" }, "Choose a kernel to see its buffers, lines and code: arrow keys move, Enter opens, Esc closes."),
    ];
  };

  const jump = (launch) => h("button", { class: "jump", type: "button", onclick: () => open(launch, true) }, `${launch} ${title(entry().launches[launch])}`);
  const several = (launches) => launches.map((l, i) => [i ? ", " : "", jump(l)]);

  const bufferTable = (l, launch) => {
    const e = entry(), access = kernelOf(l).access;
    const row = (b, i) => {
      const buffer = e.buffers[b];
      const from = e.edges.filter((x) => x.to === launch && x.buffer === b).map((x) => x.from);
      const to = e.edges.filter((x) => x.from === launch && x.buffer === b).map((x) => x.to);
      const alias = buffer.alias ? h("div", { class: "remark" }, `In the memory of ${e.buffers[buffer.alias[0]].name}: ${buffer.alias[1]}`) : null;
      return h("tr", {}, h("th", { scope: "row" }, breakable(buffer.name), alias), h("td", {}, access[i]), h("td", {}, buffer.place), h("td", { class: "code" }, typeOf(buffer)),
        h("td", { class: "number" }, human(buffer.bytes)),
        h("td", {}, from.length ? ["from ", several(from)] : null, from.length && to.length ? "; " : null, to.length ? ["to ", several(to.slice(0, 4)), to.length > 4 ? ` and ${to.length - 4} more` : ""] : null));
    };
    const heads = ["Buffer", "Access", "Place", "Type", "Bytes", "Launches"];
    return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, heads.map((c) => h("th", { scope: "col", class: c === "Bytes" ? "number" : null }, c)))), h("tbody", {}, l.buffers.map(row))));
  };

  const refusals = (l) => {
    const all = target().refused;
    if (!all) return [h("p", { class: "remark" }, "The package does not hold them.")];
    const mine = new Set(wrote(l, entry(), target()));
    const holds = (k) => k.kernel === l.kernel && (!k.outputs.length || k.outputs.some((v) => mine.has(v)));
    const near = all.filter((r) => r.function === l.function && r.kernels.some(holds));
    if (!near.length) return [h("p", { class: "remark" }, "No merge with it was tried and refused.")];
    const names = (list) => (list.length > 8 ? `{${list.slice(0, 8).join(", ")}, … ${list.length - 8} more}` : `{${list.join(", ")}}`);
    const one = (r) => h("li", {}, h("span", { class: "badge" }, r.code), h("span", {}, r.text),
      typeof r.apart_seconds === "number" && typeof r.together_seconds === "number" ? h("small", {}, `two kernels ${time(r.apart_seconds)}, one ${time(r.together_seconds)}`) : null,
      h("small", {}, `${names(r.first)} + ${names(r.second)}`));
    return [h("ul", { class: "refused" }, near.slice(0, 6).map(one)),
      near.length > 6 ? h("details", {}, h("summary", {}, `${near.length - 6} more`), h("ul", { class: "refused" }, near.slice(6).map(one))) : null];
  };

  /// The kernels of every target that store what this launch stores: other targets may fuse otherwise.
  const codes = (l) => {
    const mine = new Set(wrote(l, entry(), target()));
    const out = [];
    const order = [state.target, ...data.targets.map((_, i) => i).filter((i) => i !== state.target)];
    for (const i of order) {
      const t = data.targets[i];
      const e = t.entries.find((x) => x.name === entry().name);
      if (!e) continue;
      const kernels = i === state.target ? [l.kernel]
        : [...new Set(e.launches.filter((x) => x.function === l.function && x.repetition === l.repetition && wrote(x, e, t).some((n) => mine.has(n))).map((x) => x.kernel))];
      for (const k of kernels) {
        for (const c of t.kernels[k].code) out.push({ target: t.name, kernel: t.kernels[k].name, language: c.language, code: c, alone: kernels.length === 1 });
      }
    }
    return out;
  };
  const WORDS = new Set(("let for if else in while loop return break continue fn var struct kernel void const constant device threadgroup uint int half float bool " +
    "define store load phase grid buffer buffers serial barrier br label ret phi getelementptr fadd fmul fsub fdiv add mul sub icmp fcmp select call i1 i8 i16 i32 i64 f32 f16 bf16 u32 " +
    "read write update group using namespace thread uint3 vec2 vec3 vec4 array override enable private storage uniform workgroup bitcast").split(" "));
  const coloured = (text) => {
    if (text.length > 70000) return [text];
    const out = [];
    const tokens = /(\/\/[^\n]*|;[^\n]*$|^[ \t]*#[^\n]*)|("(?:[^"\\\n]|\\.)*")|(\b\d[\w.]*)|([A-Za-z_]\w*)/gm;
    let from = 0;
    const language = /^; ModuleID/m.test(text) ? "llvm" : "other";
    for (const m of text.matchAll(tokens)) {
      if (m[1] && m[1].startsWith(";") && language !== "llvm") continue;
      const style = m[1] ? "c" : m[2] ? "s" : m[3] ? "n" : WORDS.has(m[4]) ? "k" : null;
      if (!style) continue;
      if (m.index > from) out.push(text.slice(from, m.index));
      out.push(h("span", { class: style }, m[0]));
      from = m.index + m[0].length;
    }
    out.push(text.slice(from));
    return out;
  };
  const codeTabs = (l) => {
    const all = codes(l);
    if (!all.length) return [h("p", { class: "remark" }, "No code is held for it.")];
    const key = (c) => `${c.target}/${c.kernel}/${c.language}`;
    let chosen = Math.max(0, all.findIndex((c) => key(c) === state.tab));
    const panel = h("div", { id: "code", role: "tabpanel", tabindex: -1 });
    const tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "Code" }, all.map((c, i) => h("button", {
      type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "code", onclick: () => show(i, true),
      onkeydown: (event) => {
        const to = { ArrowRight: (i + 1) % all.length, ArrowLeft: (i + all.length - 1) % all.length, Home: 0, End: all.length - 1 }[event.key];
        if (to !== undefined) { event.preventDefault(); show(to, true); }
      },
    }, h("small", {}, c.alone ? c.target : `${c.target} · ${c.kernel}`), c.language)));
    const show = (i, focus) => {
      chosen = i;
      state.tab = key(all[i]);
      [...tabs.children].forEach((b, j) => { b.setAttribute("aria-selected", String(i === j)); b.tabIndex = i === j ? 0 : -1; });
      panel.setAttribute("aria-labelledby", `tab-${i}`);
      const c = all[i].code;
      panel.replaceChildren(
        c.text === null ? h("p", { class: "remark" }, `${human(c.left_out)} are left out to keep the page small.`) : h("pre", { tabindex: 0, "aria-label": `${all[i].language} of ${all[i].kernel} for ${all[i].target}` }, coloured(data.texts[c.text])),
        ...(c.text !== null && c.left_out ? [h("p", { class: "remark" }, `${human(c.left_out)} more are left out.`)] : []));
      if (focus) tabs.children[i].focus();
    };
    show(chosen, false);
    const missing = data.targets.filter((t) => !all.some((c) => c.target === t.name)).map((t) => t.name);
    return [tabs, panel, missing.length ? h("p", { class: "remark" }, `${missing.join(", ")} fuses otherwise: no kernel there stores the same values.`) : null];
  };

  const detail = () => {
    const old = byId("detail");
    const e = entry();
    let content;
    if (state.launch === null) content = summary();
    else {
      const l = e.launches[state.launch];
      const k = kernelOf(l);
      const share = has(state.by) && way().of(l) !== null ? way().of(l) / e.launches.reduce((n, x) => n + (way().of(x) || 0), 0) : null;
      const place = l.repetition === null ? "" : `, repetition ${l.repetition + 1} of ${l.function}`;
      content = [
        h("header", {}, h("h3", { id: "detail-title", tabindex: -1 }, title(l)), h("button", { class: "close", type: "button", onclick: close, "aria-label": "Close the detail" }, "Close")),
        h("p", { class: "about" }, `${k.template} · launch ${state.launch} of ${e.launches.length} in ${e.name} on ${target().name}${place}`),
        facts([[target().counted ? "Bytes moved" : "Bytes bound", human(l.bytes)], l.flops === null ? null : ["Operations", count(l.flops)],
          l.seconds === null ? null : ["Estimate", time(l.seconds)], l.bound === null ? null : ["Mostly", l.bound],
          l.measured === null ? null : ["Measured", time(l.measured)], share === null ? null : [`Share of ${way().label}`, `${(100 * share).toFixed(1)} %`],
          ["Grid", l.grid.length ? l.grid.join(" × ") : "1"]]),
        h("h4", {}, `Fused: ${k.fused.length} ${k.fused.length === 1 ? "op" : "ops"}`), h("ul", { class: "chips" }, folded(k.fused).map(([f, n]) => h("li", {}, n > 1 ? `${f} ×${n}` : f))),
        h("h4", {}, "From"), k.origin.length ? h("ul", { class: "lines" }, k.origin.map((o) => h("li", {}, o))) : h("p", { class: "remark" }, "No lines are known."),
        h("h4", {}, "Buffers"), bufferTable(l, state.launch),
        h("h4", {}, "Refused merges around it"), refusals(l),
        h("h4", {}, "Code"), codeTabs(l),
      ];
    }
    const box = h("aside", { id: "detail", class: state.launch === null ? "summary" : null, "aria-labelledby": "detail-title" }, content);
    if (old) old.replaceWith(box); else flow.append(box);
  };

  // -- The timeline -----------------------------------------------------------------------------------------------
  const timeline = () => {
    const section = byId("timeline");
    const m = data.measured;
    const of = m && m.target === state.target ? m.entries.find(([e]) => e === state.entry) : null;
    section.hidden = !m;
    if (!m) return;
    if (!of) {
      byId("lanes").replaceChildren(h("p", { class: "remark" }, "The trace has no times for this entry and target."));
      return;
    }
    const e = entry();
    const starts = of[1];
    const ends = e.launches.map((l, i) => starts[i] + (l.measured || 0));
    const first = Math.min(...starts), last = Math.max(...ends);
    const lanes = [...new Set(e.launches.map((l) => kernelOf(l).template))];
    const W = 1200, left = 74, laneHeight = 40, top = 6;
    const x = (t) => left + ((t - first) / Math.max(last - first, 1e-12)) * (W - left - 10);
    const most = Math.max(...e.launches.map((l) => l.measured || 0));
    const svg = s("svg", { class: "times", viewBox: `0 0 ${W} ${top + lanes.length * laneHeight + 26}`, role: "group", "aria-label": `Launches of ${e.name} over time` });
    lanes.forEach((name, i) => {
      svg.append(s("line", { class: "axis", x1: left, x2: W - 10, y1: top + (i + 1) * laneHeight - 3, y2: top + (i + 1) * laneHeight - 3 }),
        s("text", { class: "lane-label", x: left - 8, y: top + i * laneHeight + 22, "text-anchor": "end" }, name));
    });
    for (let i = 0; i <= 4; i++) {
      const t = first + ((last - first) * i) / 4;
      svg.append(s("text", { class: "lane-label", x: x(t), y: top + lanes.length * laneHeight + 16, "text-anchor": i === 0 ? "start" : i === 4 ? "end" : "middle" }, i ? time(t - first) : "0"));
    }
    const readout = h("p", { class: "readout", "aria-live": "polite" });
    const say = (l, i) => `Launch ${i}: ${title(l)}, ${time(l.measured || 0)} measured${l.seconds === null ? "" : `, ${time(l.seconds)} estimated`}`;
    e.launches.forEach((l, i) => {
      if (l.measured === null) return;
      const width = Math.max(2, x(starts[i] + l.measured) - x(starts[i]));
      const y = top + lanes.indexOf(kernelOf(l).template) * laneHeight + 5;
      const g = s("g", {
        class: width > 5 ? "slot" : "slot thin", tabindex: -1, role: "button", "data-launch": i, "aria-label": say(l, i), "--heat": `${(40 + (60 * l.measured) / most).toFixed(1)}%`,
        onclick: () => open(i, true), onmouseenter: () => (readout.textContent = say(l, i)), onfocus: () => (readout.textContent = say(l, i)),
        onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(i, true); } },
      }, s("rect", { x: x(starts[i]), y, width, height: laneHeight - 10, rx: 2 }));
      const room = Math.floor((width - 8) / 7);
      const name = title(l);
      if (room >= 5) g.append(s("text", { x: x(starts[i]) + 4, y: y + 19 }, name.length > room ? `${name.slice(0, room - 1)}…` : name));
      svg.append(g);
    });
    walk(svg, ".slot");
    byId("lanes").className = "view";
    byId("lanes").replaceChildren(h("p", { class: "lead" }, `The last step of ${e.name} on ${m.device || target().name}: ${time(last - first)}.`), h("div", { class: "scroll" }, svg), readout);
  };

  /// Arrow keys go through the parts of a picture; Tab goes past it.
  const walk = (svg, which) => {
    const parts = [...svg.querySelectorAll(which)];
    parts.forEach((p, i) => p.setAttribute("tabindex", i ? -1 : 0));
    svg.addEventListener("keydown", (event) => {
      const at = parts.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: parts.length - 1 }[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      const next = parts[Math.max(0, Math.min(parts.length - 1, to))];
      parts.forEach((p) => p.setAttribute("tabindex", p === next ? 0 : -1));
      next.focus();
    });
  };

  // -- The arena, which is in the page already ----------------------------------------------------------------------
  document.querySelectorAll("#memory .view").forEach((view) => {
    const svg = view.querySelector("svg");
    const readout = view.querySelector(".readout");
    if (!svg) return;
    const t = data.targets[Number(view.dataset.target)];
    const e = t.entries[Number(view.dataset.entry)];
    const box = svg.viewBox.baseVal;
    const hint = "Point at a buffer, or reach it with Tab and the arrow keys.";
    readout.textContent = hint;
    svg.querySelectorAll(".buffer").forEach((g) => {
      const b = e.buffers[Number(g.dataset.buffer)];
      const alias = b.alias ? `, in the memory of ${e.buffers[b.alias[0]].name}: ${b.alias[1]}` : "";
      const text = `${b.name}: ${typeOf(b)}, ${human(b.bytes)} at ${b.offset}, launches ${b.first} to ${b.last}${alias}`;
      g.setAttribute("role", "img");
      g.setAttribute("aria-label", text);
      g.addEventListener("focus", () => (readout.textContent = text));
    });
    svg.addEventListener("mousemove", (event) => {
      const r = svg.getBoundingClientRect();
      const launch = Math.floor((((event.clientX - r.left) / r.width) * box.width + box.x) / 960 * e.launches.length);
      const on = event.target.closest(".buffer");
      const about = on ? `${on.getAttribute("aria-label")} — ` : "";
      const l = e.launches[launch];
      readout.textContent = l ? `${about}launch ${launch}, ${title(l, t)}: ${human(e.arena.live[launch])} live` : hint;
    });
    svg.addEventListener("mouseleave", () => (readout.textContent = hint));
    walk(svg, ".buffer");
  });

  // -- All together -------------------------------------------------------------------------------------------------
  const draw = () => {
    if (!has(state.by)) state.by = "bytes";
    controls();
    graph();
    detail();
    timeline();
    document.querySelectorAll("[data-entry].view").forEach((v) => {
      v.hidden = Number(v.dataset.target) !== state.target || Number(v.dataset.entry) !== state.entry;
    });
  };
  const change = () => {
    state.launch = state.focus = state.tab = null;
    draw();
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.launch !== null) { event.preventDefault(); close(); }
  });
  document.querySelectorAll("details.table").forEach((d) => (d.open = false));
  byId("controls").hidden = false;
  flow.hidden = false;
  if (data.measured) {
    state.target = data.measured.target;
    state.entry = data.measured.entries[0][0];
    state.by = "measured";
  }
  draw();
  new ResizeObserver(() => wires()).observe(flow);
})();
