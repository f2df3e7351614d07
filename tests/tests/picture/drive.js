"use strict";
// Uses the page by keyboard and writes what went wrong into it. Keys are dispatched; where a browser makes a click of
// Enter itself, as on buttons, the click stands for it.
{
  const wrong = [];
  const check = (holds, what) => { if (!holds) wrong.push(what); };
  const all = (which) => [...document.querySelectorAll(which)];
  const one = (which) => document.querySelector(which);
  const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const at = () => document.activeElement.dataset.launch;
  const choose = (name, value) => {
    const input = all(`input[name=${name}]`).find((i) => i.value === value || i.parentElement.textContent === value);
    check(input, `no choice ${value} of ${name}`);
    input.click();
  };
  try {
    check(all(".skip a").every((a) => one(a.getAttribute("href"))), "a skip link leads nowhere");
    check(all("h1").length === 1 && all("section").every((s) => s.querySelector("h2")), "headings");
    const named = (b) => (b.getAttribute("aria-label") || b.textContent).trim() !== "";
    check(all("button, [role=tab]").every(named), "a button without a name");
    check(all(".graph [tabindex='0']").length === 1, "one stop for Tab in the graph");

    // Through the kernels and into one.
    choose("entry", "prefill");
    one(".graph [tabindex='0']").focus();
    check(at() === "0", "the first kernel has the focus");
    press("ArrowDown");
    press("ArrowDown");
    check(at() === "2", `two down is launch 2, not ${at()}`);
    press("ArrowUp");
    check(at() === "1", "one up is launch 1");
    document.activeElement.click();
    check(document.activeElement.matches("#detail h3"), "Enter leads into the detail");
    check(one(".graph [aria-expanded=true]").dataset.launch === "1", "the kernel is marked");
    const detail = one("#detail").textContent;
    check(/decoder\.rs:\d+/.test(detail), "lines of the source");
    check(/bf16\[S, 256\]/.test(detail) && /KiB/.test(detail), "types and bytes of buffers");
    check(/rsqrt/.test(detail), "ops that were fused");
    check(all("#detail .refused li").length > 0, "refused merges");
    check(all("#detail [aria-selected=true]").length === 1, "one tab is chosen");
    const languages = all("#detail [role=tab]").map((t) => t.lastChild.textContent).join(", ");
    check(["Kernel IR", "LLVM IR", "MSL", "WGSL"].every((l) => languages.includes(l)), `languages: ${languages}`);
    const first = one("#code").textContent;
    check(first.includes("kernel input_layernorm"), "Kernel IR");
    one("#detail [aria-selected=true]").focus();
    press("ArrowRight");
    check(document.activeElement.getAttribute("aria-selected") === "true", "arrows choose tabs");
    check(one("#code").textContent !== first && one("#code").textContent.includes("define"), "LLVM IR");
    press("Escape");
    check(at() === "1" && !one(".graph .kernel[aria-expanded=true]"), "Esc closes and goes back");

    // A block opens and closes.
    const folded = all(".graph .kernel").length;
    const block = () => one(".graph .block");
    block().focus();
    press("ArrowRight");
    check(block().getAttribute("aria-expanded") === "true" && all(".graph .kernel").length > folded, "a block opens");
    check(document.activeElement === block(), "and keeps the focus");
    press("ArrowLeft");
    check(all(".graph .kernel").length === folded, "a block closes");

    // Every entry, target and colouring.
    for (const target of ["0", "1", "2"]) {
      choose("target", target);
      for (const entry of ["prefill", "decode", "score"]) {
        choose("entry", entry);
        for (const by of ["bytes", "estimate"]) {
          choose("by", by);
          check(all(".graph .kernel").length > 10, `${entry} of ${target}`);
          check(new Set(all(".graph .kernel").map((k) => getComputedStyle(k).backgroundColor)).size > 3, `colours of ${entry}`);
          check(all(".graph path.wire").length > 10, "data from kernel to kernel");
        }
        check(all("#memory .view").filter((v) => !v.hidden).length === 1, "one memory plan is shown");
      }
    }

    // Times.
    choose("target", "0");
    choose("entry", "decode");
    choose("by", "measured");
    check(all(".slot").length === 30, `launches of the timeline: ${all(".slot").length}`);
    one(".slot[tabindex='0']").focus();
    press("ArrowRight");
    check(at() === "1", "arrows go along the timeline");
    press("Enter");
    check(one("#detail").textContent.includes("Measured"), "Enter opens a kernel from the timeline");
    press("Escape");

    // Memory.
    one("#memory .view:not([hidden]) .buffer[tabindex='0']").focus();
    press("ArrowRight");
    const said = one("#memory .view:not([hidden]) .readout").textContent;
    check(/bf16\[.*B at \d+, launches \d+ to \d+/.test(said), `a buffer is told: ${said}`);
    check(all("#rules tbody tr").length > 0, "rules");

    // Nothing can be fetched.
    fetch("data:text/plain,x").then(() => wrong.push("the policy lets the page fetch"), () => {}).finally(done);
  } catch (e) {
    wrong.push(`${e.stack}`);
    done();
  }
  function done() {
    const out = document.createElement("pre");
    out.id = "driven";
    out.textContent = JSON.stringify(wrong);
    document.body.append(out);
  }
}
