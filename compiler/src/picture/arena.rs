//! The arena over the launches of a step, as SVG: a box for each buffer, what is live, and the most that is.

use super::escape::html;
use super::model::{Buffer, Entry};
use crate::report::human;
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 380.0;
/// Room for labels: left, above, right, below.
const MARGIN: (f64, f64, f64, f64) = (78.0, 26.0, 14.0, 44.0);
/// Colours of boxes, in turn; neighbours in time are far apart in hue.
const COLOURS: usize = 8;

/// Colours and lines, in light and in dark. A page has them once for all its pictures.
pub const STYLE: &str = include_str!("arena.css");

/// The picture as a file of its own.
pub fn svg(e: &Entry) -> String {
    draw(e, true)
}

/// The picture inside a page that has [`STYLE`].
pub fn inline(e: &Entry) -> String {
    draw(e, false)
}

fn draw(e: &Entry, alone: bool) -> String {
    let (left, above, right, below) = MARGIN;
    let launches = e.launches.len().max(1) as f64;
    let top = e.arena.bytes.max(1) as f64;
    let x = |launch: f64| launch / launches * WIDTH;
    let y = |bytes: f64| HEIGHT - bytes / top * HEIGHT;
    let (a, peak) = (&e.arena, e.arena.peak);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"arena\" viewBox=\"{} {} {} {}\" role=\"group\" \
         aria-label=\"Memory of {}\">\n<title>Memory of {}</title>\n",
        -left,
        -above,
        left + WIDTH + right,
        above + HEIGHT + below,
        html(&e.name),
        html(&e.name)
    );
    if alone {
        let _ = writeln!(out, "<style>\n{STYLE}</style>");
    }
    let _ = writeln!(out, "<rect class=\"plot\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>");
    for (i, b) in e.buffers.iter().enumerate() {
        if let Some(offset) = b.offset {
            let (x0, x1) = (x(f64::from(b.first)), x(f64::from(b.last) + 1.0));
            let (y0, y1) = (y((offset + b.bytes) as f64), y(offset as f64));
            out.push_str(&one(i, b, [x0, y0, x1 - x0, y1 - y0]));
        }
    }
    if !e.launches.is_empty() {
        let _ = writeln!(
            out,
            "<rect class=\"peak\" x=\"{:.2}\" y=\"0\" width=\"{:.2}\" height=\"{HEIGHT}\"/>",
            x(f64::from(peak)),
            x(1.0)
        );
        let mut line = String::new();
        for (i, bytes) in a.live.iter().enumerate() {
            let (from, to, at) = (x(i as f64), x(i as f64 + 1.0), y(*bytes as f64));
            let _ = write!(line, "{}{from:.2} {at:.2}H{to:.2}", if i == 0 { "M" } else { "L" });
        }
        let _ = writeln!(out, "<path class=\"live\" d=\"{line}\"/>");
    }
    let bound = y(a.lower_bound as f64);
    let _ = writeln!(
        out,
        "<line class=\"bound\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{bound:.2}\" y2=\"{bound:.2}\"/>\n\
         <text class=\"note\" x=\"{WIDTH}\" y=\"{:.2}\" text-anchor=\"end\">lower bound {}</text>",
        bound - 6.0,
        human(a.lower_bound)
    );
    for part in 0..=4u64 {
        let bytes = a.bytes / 4 * part;
        let _ = writeln!(
            out,
            "<line class=\"tick\" x1=\"-4\" x2=\"0\" y1=\"{0:.2}\" y2=\"{0:.2}\"/>\
             <text x=\"-8\" y=\"{1:.2}\" text-anchor=\"end\">{2}</text>",
            y(bytes as f64),
            y(bytes as f64) + 4.0,
            human(bytes)
        );
    }
    let step = [1, 2, 5, 10, 20, 50, 100, 200, 500].into_iter().find(|s| e.launches.len() / s <= 24).unwrap_or(1000);
    for i in (0..e.launches.len()).step_by(step) {
        let _ = writeln!(
            out,
            "<text x=\"{:.2}\" y=\"{}\" text-anchor=\"middle\">{i}</text>",
            x(i as f64 + 0.5),
            HEIGHT + 16.0
        );
    }
    let _ = writeln!(out, "<text x=\"0\" y=\"{}\">launch</text>", HEIGHT + 34.0);
    if let Some(live) = a.live.get(peak as usize) {
        // The label leans to the side that has room.
        let at = f64::from(peak) + 0.5;
        let anchor = if at < launches * 0.2 {
            "start"
        } else if at > launches * 0.8 {
            "end"
        } else {
            "middle"
        };
        let _ = writeln!(
            out,
            "<text class=\"note\" x=\"{:.2}\" y=\"{}\" text-anchor=\"{anchor}\">peak at launch {peak}: {} live</text>",
            x(at).max(60.0),
            HEIGHT + 34.0,
            human(*live)
        );
    }
    out.push_str("</svg>\n");
    out
}

fn one(i: usize, b: &Buffer, [x, y, width, height]: [f64; 4]) -> String {
    let kind = if b.alias.is_some() { " alias" } else { "" };
    let mut out = format!(
        "<g class=\"buffer c{}{kind}\" data-buffer=\"{i}\"><rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" \
         height=\"{height:.2}\"/><title>{}</title>",
        i * 3 % COLOURS,
        html(&sentence(b))
    );
    // Less than 7 units a letter.
    let room = ((width - 6.0) / 6.8).max(0.0) as usize;
    if height >= 13.0 && room >= 4 {
        let name = match b.name.chars().count() > room {
            true => b.name.chars().take(room - 1).chain(['…']).collect(),
            false => b.name.clone(),
        };
        let _ = write!(
            out,
            "<text x=\"{:.2}\" y=\"{:.2}\">{}</text>",
            x + 4.0,
            y + (height / 2.0 + 4.0).min(14.0),
            html(&name)
        );
    }
    out.push_str("</g>\n");
    out
}

/// A buffer of the arena in one sentence.
pub fn sentence(b: &Buffer) -> String {
    let alias = b.alias.as_ref().map_or(String::new(), |(_, why)| format!(", in the memory of another: {why}"));
    format!(
        "{}: {}[{}], {} at {}, launches {} to {}{alias}",
        b.name,
        b.dtype,
        b.shape.join(", "),
        human(b.bytes),
        b.offset.unwrap_or(0),
        b.first,
        b.last
    )
}
