//! What a plan says to people: entries, kernels, memory.

use mlxc_package::plan::{Entry, Place, Plan};
use serde::Serialize;
use std::fmt::Write;

/// One entry in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryReport {
    /// Name.
    pub name: String,
    /// Launches of one step.
    pub launches: u64,
    /// Launches of one repetition of the repeated block; 0 where nothing repeats.
    pub launches_per_block: u64,
    /// Planned scratch, in bytes.
    pub scratch_bytes: u64,
    /// Largest sum of live scratch at one launch, in bytes.
    pub lower_bound_bytes: u64,
    /// Sum of all scratch buffers, in bytes.
    pub naive_bytes: u64,
    /// Group memory a worker needs, in bytes.
    pub worker_bytes: u64,
    /// State, in bytes.
    pub state_bytes: u64,
    /// Weights this entry reads, in bytes.
    pub weight_bytes: u64,
}

/// A plan in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanReport {
    /// Entries.
    pub entries: Vec<EntryReport>,
    /// Distinct kernels.
    pub kernels: u64,
    /// All weights, in bytes.
    pub weight_bytes: u64,
    /// All states, in bytes.
    pub state_bytes: u64,
}

/// Reports a plan.
pub fn report(plan: &Plan) -> PlanReport {
    PlanReport {
        entries: plan.entries.iter().map(|e| entry(plan, e)).collect(),
        kernels: plan.kernels.len() as u64,
        weight_bytes: plan.weights.iter().map(|w| w.bytes).sum(),
        state_bytes: plan.states.iter().map(|s| s.bytes).sum(),
    }
}

fn entry(plan: &Plan, e: &Entry) -> EntryReport {
    let repeated: Vec<(u32, u32)> = e.launches.iter().filter_map(|l| l.block).collect();
    let repetitions: std::collections::BTreeSet<(u32, u32)> = repeated.iter().copied().collect();
    let bytes = |pick: &dyn Fn(Place) -> Option<u64>| -> u64 { e.buffers.iter().filter_map(|b| pick(b.place)).sum() };
    EntryReport {
        name: e.name.clone(),
        launches: e.launches.len() as u64,
        launches_per_block: repeated.len().checked_div(repetitions.len()).unwrap_or(0) as u64,
        scratch_bytes: e.arena.bytes,
        lower_bound_bytes: e.arena.lower_bound,
        naive_bytes: e.arena.naive,
        worker_bytes: e.arena.worker_bytes,
        state_bytes: bytes(&|p| match p {
            Place::State(s) => Some(plan.states[s as usize].bytes),
            _ => None,
        }),
        weight_bytes: bytes(&|p| match p {
            Place::Weight(w) => Some(plan.weights[w as usize].bytes),
            _ => None,
        }),
    }
}

/// Bytes as people read them.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The kernels of an entry in launch order, what each fused and where it came from. Repetitions of a block are shown
/// once.
pub fn kernels(plan: &Plan, e: &Entry) -> String {
    let mut out = String::new();
    let mut skipped = 0;
    for l in &e.launches {
        if l.block.is_some_and(|(_, n)| n > 0) {
            skipped += 1;
            continue;
        }
        let k = &plan.kernels[l.kernel as usize];
        let place = if l.block.is_some() { "  block" } else { "" };
        let _ = writeln!(out, "{:<28} {:<10}{place}", k.name, k.template);
        let _ = writeln!(out, "    fused: {}", k.comment);
        let mut files: Vec<&str> = k.origin.iter().map(String::as_str).collect();
        files.dedup();
        if !files.is_empty() {
            let _ = writeln!(out, "    from:  {}", files.join(", "));
        }
    }
    if skipped > 0 {
        let _ = writeln!(out, "... and the same block again: {skipped} more launches");
    }
    out
}

/// The memory plan of an entry as text.
pub fn memory(e: &Entry) -> String {
    let mut out = String::new();
    let a = &e.arena;
    let ratio = if a.lower_bound == 0 { 1.0 } else { a.bytes as f64 / a.lower_bound as f64 };
    let _ = writeln!(
        out,
        "{}: scratch {} ({} bytes), lower bound {}, ratio {ratio:.4}, without reuse {}, placed by {}",
        e.name,
        human(a.bytes),
        a.bytes,
        human(a.lower_bound),
        human(a.naive),
        a.strategy
    );
    let _ = writeln!(out, "  group memory of a worker: {}", human(a.worker_bytes));
    let (peak, live) = peak(e);
    let _ = writeln!(out, "  peak at launch {peak}: {} live", human(live));
    for b in &e.buffers {
        if let Place::Arena { offset } = b.place
            && b.first <= peak
            && peak <= b.last
        {
            let _ = writeln!(
                out,
                "    {:<28} {:>10} at {offset:<12} launches {}..={}",
                b.name,
                human(b.bytes),
                b.first,
                b.last
            );
        }
    }
    out
}

/// The launch at which most scratch is live, and how much.
fn peak(e: &Entry) -> (u32, u64) {
    let live = |at: u32| -> u64 {
        e.buffers
            .iter()
            .filter(|b| matches!(b.place, Place::Arena { .. }) && b.first <= at && at <= b.last)
            .map(|b| b.bytes.div_ceil(256) * 256)
            .sum()
    };
    (0..e.launches.len() as u32)
        .map(|i| (i, live(i)))
        .max_by_key(|(i, b)| (*b, std::cmp::Reverse(*i)))
        .unwrap_or((0, 0))
}

/// The memory plan of an entry as an SVG picture: launches to the right, addresses upwards.
pub fn memory_svg(e: &Entry) -> String {
    let (w, h) = (960.0, 480.0);
    let launches = e.launches.len().max(1) as f64;
    let top = e.arena.bytes.max(1) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-70 -30 {} {}\" font-family=\"sans-serif\" font-size=\"11\">\n",
        w + 90.0,
        h + 70.0
    );
    let _ = writeln!(out, "<title>Memory plan of {}</title>", escape(&e.name));
    let _ = writeln!(out, "<rect x=\"0\" y=\"0\" width=\"{w}\" height=\"{h}\" fill=\"#f6f6f4\" stroke=\"#888\"/>");
    for (i, b) in e.buffers.iter().enumerate() {
        let Place::Arena { offset } = b.place else { continue };
        let x = f64::from(b.first) / launches * w;
        let width = f64::from(b.last - b.first + 1) / launches * w;
        let height = b.bytes as f64 / top * h;
        let y = h - offset as f64 / top * h - height;
        let hue = (i * 47) % 360;
        let _ = writeln!(
            out,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"hsl({hue},55%,70%)\" \
             stroke=\"#fff\" stroke-width=\"0.5\"><title>{}: {}, launches {} to {}</title></rect>",
            escape(&b.name),
            human(b.bytes),
            b.first,
            b.last
        );
    }
    let bound = h - e.arena.lower_bound as f64 / top * h;
    let _ = writeln!(
        out,
        "<line x1=\"0\" x2=\"{w}\" y1=\"{bound:.2}\" y2=\"{bound:.2}\" stroke=\"#c33\" stroke-dasharray=\"6 4\"/>"
    );
    let _ = writeln!(
        out,
        "<text x=\"4\" y=\"{:.2}\" fill=\"#c33\">lower bound {}</text>",
        bound - 4.0,
        human(e.arena.lower_bound)
    );
    let _ = writeln!(out, "<text x=\"0\" y=\"{}\">launch 0</text>", h + 18.0);
    let _ = writeln!(out, "<text x=\"{w}\" y=\"{}\" text-anchor=\"end\">launch {}</text>", h + 18.0, e.launches.len());
    let _ = writeln!(out, "<text x=\"-6\" y=\"10\" text-anchor=\"end\">{}</text>", human(e.arena.bytes));
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        assert_eq!(human(0), "0 B");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(3 << 30), "3.0 GiB");
    }
}
