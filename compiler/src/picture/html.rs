//! The page: one file that needs nothing else.
//!
//! Everything is in the page twice: as headings, tables and pictures that any reader shows, and as data from which the
//! page's script draws what can be walked through. The page's own policy allows its own style and script, by their
//! hashes, and nothing from elsewhere.

use super::escape::{html, script};
use super::model::{Entry, Launch, Picture, Target};
use super::{arena, figures};
use crate::report::human;
use mlxc_package::sha256;
use std::fmt::Write;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn print(p: &Picture) -> String {
    let style = format!("{}{STYLE}", arena::STYLE);
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        base64_of_hex(&sha256(style.as_bytes())),
        base64_of_hex(&sha256(SCRIPT.as_bytes()))
    );
    let data = serde_json::to_string(p).expect("a picture is plain data");
    let mut out = String::new();
    // One pass: what stands in for a part is not searched for further parts.
    let mut rest = PAGE;
    while let Some((before, tail)) = rest.split_once("{{") {
        let (part, after) = tail.split_once("}}").expect("invariant: the page closes what it opens");
        out.push_str(before);
        match part {
            "POLICY" => out.push_str(&policy),
            "TITLE" => out.push_str(&html(&format!("{} — mlxc", p.model))),
            "STYLE" => out.push_str(&style),
            "BODY" => body(&mut out, p),
            "DATA" => out.push_str(&script(&data)),
            "SCRIPT" => out.push_str(SCRIPT),
            other => unreachable!("the page has no part {other}"),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn body(out: &mut String, p: &Picture) {
    header(out, p);
    out.push_str("<div id=\"controls\" hidden></div>\n<main>\n");
    out.push_str("<section id=\"kernels\" aria-labelledby=\"kernels-title\" tabindex=\"-1\">\n");
    out.push_str("<h2 id=\"kernels-title\">Kernels</h2>\n<div id=\"flow\" hidden></div>\n");
    for_each(out, p, "h3", launches);
    out.push_str("</section>\n");
    out.push_str("<section id=\"timeline\" aria-labelledby=\"timeline-title\" hidden>\n");
    out.push_str("<h2 id=\"timeline-title\">Timeline</h2>\n<div id=\"lanes\"></div>\n</section>\n");
    out.push_str("<section id=\"memory\" aria-labelledby=\"memory-title\" tabindex=\"-1\">\n");
    out.push_str("<h2 id=\"memory-title\">Memory</h2>\n");
    out.push_str(
        "<p class=\"lead\">Scratch buffers over the launches of a step: time to the right, the arena upwards. The line \
         is what is live; no plan of this order of launches is lower than the dashed one.</p>\n",
    );
    for_each(out, p, "h3", |out, _, e| memory(out, e));
    out.push_str("</section>\n");
    rules(out, p);
    refusals(out, p);
    absent(out, p);
    out.push_str("</main>\n");
    let _ = writeln!(out, "<footer><p>Drawn by {}. The same input gives the same page.</p></footer>", html(&p.writer));
}

fn header(out: &mut String, p: &Picture) {
    let _ = writeln!(
        out,
        "<header>\n<p class=\"over\">A compilation</p>\n<h1>{}</h1>\n<dl class=\"facts\">",
        html(&p.model)
    );
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", html(&value));
    };
    let names: Vec<&str> = p.targets.iter().map(|t| t.name.as_str()).collect();
    fact(if names.len() == 1 { "Target" } else { "Targets" }, names.join(", "));
    if let Some(t) = p.targets.first() {
        let entries: Vec<String> = t.entries.iter().map(|e| format!("{} {}", e.name, e.launches.len())).collect();
        fact("Launches", entries.join(", "));
        fact("Distinct kernels", t.kernels.len().to_string());
        fact("Weights", human(t.weight_bytes));
        fact("State", human(t.state_bytes));
    }
    if let Some(m) = &p.measured {
        let target = &p.targets[m.target as usize].name;
        fact("Measured", if m.device.is_empty() { target.clone() } else { format!("{target}, {}", m.device) });
    }
    out.push_str("</dl>\n</header>\n");
}

/// A view of every entry of every target; the script shows one at a time.
fn for_each(out: &mut String, p: &Picture, heading: &str, mut print: impl FnMut(&mut String, &Target, &Entry)) {
    for (i, t) in p.targets.iter().enumerate() {
        for (j, e) in t.entries.iter().enumerate() {
            let _ = writeln!(
                out,
                "<div class=\"view\" data-target=\"{i}\" data-entry=\"{j}\">\n<{heading}>{} on {}</{heading}>",
                html(&e.name),
                html(&t.name)
            );
            print(out, t, e);
            out.push_str("</div>\n");
        }
    }
}

/// The launches of an entry; of a repeated block the first repetition.
fn launches(out: &mut String, t: &Target, e: &Entry) {
    let measured = e.launches.iter().any(|l| l.measured.is_some());
    let values: Vec<String> = e.symbols.iter().map(|s| format!("{} = {}", s.name, s.at)).collect();
    out.push_str(
        "<details class=\"table\" open><summary>As a table</summary>\n<div class=\"scroll\"><table>\n<caption>",
    );
    let _ = write!(out, "{} launches", e.launches.len());
    if !values.is_empty() {
        let _ = write!(out, "; bytes and times at {}", html(&values.join(", ")));
    }
    out.push_str("</caption>\n<thead><tr>");
    let mut columns = vec!["Launch", "Kernel", "Template", "Fused", "From", "Bytes", "Operations", "Estimate"];
    columns.extend(measured.then_some("Measured"));
    for (i, c) in columns.iter().enumerate() {
        let class = if i == 0 || i > 4 { " class=\"number\"" } else { "" };
        let _ = write!(out, "<th scope=\"col\"{class}>{c}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    let mut block = None;
    for (i, l) in e.launches.iter().enumerate() {
        match l.repetition {
            Some(0) if block != Some(&l.function) => {
                let of = |m: &&Launch| m.function == l.function;
                let times = e.launches.iter().filter(of).filter_map(|m| m.repetition).max().unwrap_or(0) + 1;
                let _ = writeln!(
                    out,
                    "<tr class=\"repeated\"><th scope=\"rowgroup\" colspan=\"{}\">{} ×{times}</th></tr>",
                    columns.len(),
                    html(&l.function)
                );
                block = Some(&l.function);
            }
            Some(n) if n > 0 => continue,
            _ => {}
        }
        let k = &t.kernels[l.kernel as usize];
        let _ = write!(
            out,
            "<tr><td class=\"number\">{i}</td><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"code\">{}</td>",
            html(&k.name),
            html(&k.template),
            html(&k.fused.join(", ")),
            k.origin.iter().map(|o| html(o)).collect::<Vec<_>>().join("<br>")
        );
        let dash = || "–".to_string();
        let mut cells = vec![
            human(l.bytes as u64),
            l.flops.map_or_else(dash, figures::count),
            l.seconds.map_or_else(dash, figures::time),
        ];
        cells.extend(measured.then(|| l.measured.map_or_else(dash, figures::time)));
        for c in cells {
            let _ = write!(out, "<td class=\"number\">{c}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div></details>\n");
}

fn memory(out: &mut String, e: &Entry) {
    let a = &e.arena;
    let ratio = if a.lower_bound == 0 { 1.0 } else { a.bytes as f64 / a.lower_bound as f64 };
    let _ = writeln!(
        out,
        "<dl class=\"facts\"><div><dt>Scratch</dt><dd>{}</dd></div><div><dt>Lower bound</dt><dd>{}</dd></div>\
         <div><dt>Ratio</dt><dd>{ratio:.4}</dd></div><div><dt>Without reuse</dt><dd>{}</dd></div>\
         <div><dt>Group memory of a worker</dt><dd>{}</dd></div><div><dt>Placed by</dt><dd>{}</dd></div></dl>",
        human(a.bytes),
        human(a.lower_bound),
        human(a.naive),
        human(a.worker_bytes),
        html(&a.strategy)
    );
    if a.bytes == 0 {
        out.push_str("<p>This entry needs no scratch.</p>\n");
        return;
    }
    let _ = writeln!(out, "<div class=\"scroll\">{}</div>", arena::inline(e));
    out.push_str("<p class=\"readout\" aria-live=\"polite\"></p>\n");
    let mut live: Vec<_> =
        e.buffers.iter().filter(|b| b.offset.is_some() && b.first <= a.peak && a.peak <= b.last).collect();
    let shared = live.iter().any(|b| b.alias.is_some());
    out.push_str(
        "<details class=\"table\" open><summary>What is live at the peak</summary>\n<div class=\"scroll\"><table>\n",
    );
    let _ = writeln!(
        out,
        "<caption>Launch {}: {}</caption>\n<thead><tr><th scope=\"col\">Buffer</th><th scope=\"col\">Type</th>\
         <th scope=\"col\" class=\"number\">Bytes</th><th scope=\"col\" class=\"number\">At</th>\
         <th scope=\"col\">Launches</th>{}</tr></thead>\n<tbody>",
        a.peak,
        human(a.live.get(a.peak as usize).copied().unwrap_or(0)),
        if shared { "<th scope=\"col\">Shares memory</th>" } else { "" }
    );
    live.sort_by_key(|b| (std::cmp::Reverse(b.bytes), b.offset));
    for b in live {
        let with = |(of, why): &(u32, String)| {
            let of = e.buffers.get(*of as usize).map_or("", |b| b.name.as_str());
            format!("with {of}: {why}")
        };
        let alias = b.alias.as_ref().map_or_else(String::new, with);
        let alias = if shared { format!("<td>{}</td>", html(&alias)) } else { alias };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"code\">{}[{}]</td><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td><td>{} to {}</td>{alias}</tr>",
            html(&b.name),
            html(&b.dtype),
            html(&b.shape.join(", ")),
            human(b.bytes),
            b.offset.unwrap_or(0),
            b.first,
            b.last
        );
    }
    out.push_str("</tbody></table></div></details>\n");
}

fn rules(out: &mut String, p: &Picture) {
    out.push_str("<section id=\"rules\" aria-labelledby=\"rules-title\" tabindex=\"-1\">\n");
    out.push_str("<h2 id=\"rules-title\">Rewrite rules</h2>\n");
    out.push_str("<p class=\"lead\">Rules that found something new in each function, before kernels were made.</p>\n");
    for r in p.rules.iter().flatten() {
        let _ = writeln!(out, "<h3>{}</h3>\n<div class=\"rules\">", html(&r.function));
        let saved = if r.cost_before == 0 { 0.0 } else { 100.0 - 100.0 * r.cost_after as f64 / r.cost_before as f64 };
        let _ = writeln!(
            out,
            "<dl class=\"facts\"><div><dt>Nodes</dt><dd>{}</dd></div><div><dt>Classes</dt><dd>{}</dd></div>\
             <div><dt>Rounds</dt><dd>{}</dd></div><div><dt>Cost before</dt><dd>{}</dd></div>\
             <div><dt>Cost after</dt><dd>{}</dd></div><div><dt>Saved</dt><dd>{saved:.1} %</dd></div></dl>",
            r.nodes,
            r.classes,
            r.rounds,
            figures::time(r.cost_before as f64 * 1e-12),
            figures::time(r.cost_after as f64 * 1e-12)
        );
        if r.fired.is_empty() {
            out.push_str("<p>No rule fired.</p>\n");
        } else {
            out.push_str(
                "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Group</th><th scope=\"col\">Rule</th>\
                 <th scope=\"col\" class=\"number\">Fired</th></tr></thead>\n<tbody>\n",
            );
            for f in &r.fired {
                let _ = writeln!(
                    out,
                    "<tr><td><span class=\"group {0}\">{0}</span></td><th scope=\"row\">{1}</th><td class=\"number\">{2}</td></tr>",
                    html(&f.group),
                    html(&f.rule),
                    f.count
                );
            }
            out.push_str("</tbody></table></div>\n");
        }
        for w in &r.warnings {
            let _ = writeln!(out, "<p class=\"warning\">{}</p>", html(w));
        }
        out.push_str("</div>\n");
    }
    if p.rules.is_none() {
        out.push_str("<p>The package does not hold them.</p>\n");
    }
    out.push_str("</section>\n");
}

/// How often merges were refused, by reason; which they were is shown with the kernels.
fn refusals(out: &mut String, p: &Picture) {
    out.push_str("<section id=\"refusals\" aria-labelledby=\"refusals-title\" tabindex=\"-1\">\n");
    out.push_str("<h2 id=\"refusals-title\">Refused merges</h2>\n");
    out.push_str("<p class=\"lead\">Pairs of groups that were tried as one kernel and stayed two.</p>\n");
    let mut counts: std::collections::BTreeMap<(&str, usize), usize> = Default::default();
    for (i, t) in p.targets.iter().enumerate() {
        for r in t.refused.iter().flatten() {
            *counts.entry((&r.reason.code, i)).or_default() += 1;
        }
    }
    if counts.is_empty() {
        out.push_str("<p>None are known.</p>\n</section>\n");
        return;
    }
    out.push_str("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Code</th>");
    for t in &p.targets {
        let _ = write!(out, "<th scope=\"col\" class=\"number\">{}</th>", html(&t.name));
    }
    out.push_str("<th scope=\"col\">For example</th></tr></thead>\n<tbody>\n");
    let mut codes: Vec<&str> = counts.keys().map(|(code, _)| *code).collect();
    codes.dedup();
    for code in codes {
        let _ = write!(out, "<tr><th scope=\"row\"><span class=\"badge\">{}</span></th>", html(code));
        for i in 0..p.targets.len() {
            let _ = write!(out, "<td class=\"number\">{}</td>", counts.get(&(code, i)).copied().unwrap_or(0));
        }
        let example = p.targets.iter().flat_map(|t| t.refused.iter().flatten()).find(|r| r.reason.code == code);
        let _ = writeln!(out, "<td>{}</td></tr>", html(example.map_or("", |r| r.reason.text.as_str())));
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}

fn absent(out: &mut String, p: &Picture) {
    if p.absent.is_empty() {
        return;
    }
    out.push_str("<section id=\"absent\" aria-labelledby=\"absent-title\" tabindex=\"-1\">\n");
    out.push_str("<h2 id=\"absent-title\">Not on this page</h2>\n<ul>\n");
    for a in &p.absent {
        let _ = writeln!(out, "<li>{}</li>", html(a));
    }
    out.push_str("</ul>\n</section>\n");
}

/// A hash as a content security policy writes it.
fn base64_of_hex(hex: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let nibbles: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    let bytes: Vec<u32> = nibbles.chunks(2).map(|n| n.iter().fold(0, |b, n| b * 16 + n)).collect();
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().chain([0, 0].iter()).take(3).fold(0, |w, b| w << 8 | b);
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= three.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_as_policies_write_them() {
        assert_eq!(base64_of_hex("666f6f"), "Zm9v");
        assert_eq!(base64_of_hex("666f"), "Zm8=");
        assert_eq!(base64_of_hex("66"), "Zg==");
        // The style of the page must not end its own element, nor the script.
        assert!(
            !STYLE.contains("</") && !arena::STYLE.contains("</") && !SCRIPT.contains("</") && !SCRIPT.contains("<!--")
        );
    }
}
