//! Why two values are not in one kernel, or in which they are.

use super::names::{Kind, Named, Names};
use super::{Computed, Reason};
use mlxc_ir::Diagnostic;
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt::Write;

/// A kernel of a function, or a block that it calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Its name.
    pub kernel: String,
    /// Names of the values that others read; a kernel may be launched for several sets of them.
    pub outputs: Vec<String>,
    /// True if it is, in this function.
    pub shared: bool,
    /// True for a block.
    pub block: bool,
}

impl Held {
    fn new(names: &Names<'_>, k: usize) -> Self {
        let k = &names.reasons.kernels[k];
        Held {
            kernel: k.kernel.clone(),
            outputs: k.outputs.clone(),
            shared: names.reasons.is_shared(k),
            block: k.passed.is_some(),
        }
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.kernel)?;
        if self.shared && !self.block && !self.outputs.is_empty() {
            write!(f, " for `{}`", self.outputs.join("`, `"))?;
        }
        Ok(())
    }
}

/// What is true of two names in one function.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Answer {
    /// One kernel has both.
    Together {
        /// The function.
        function: String,
        /// The kernel.
        kernel: String,
        /// Values it computes.
        values: Vec<String>,
    },
    /// Merging them was tried.
    Refused {
        /// The function.
        function: String,
        /// Kernels that have them.
        kernels: [Held; 2],
        /// What was said, newest first.
        merges: Vec<Reason>,
    },
    /// Data goes from one to the other, through the kernels between them.
    Chain {
        /// The function.
        function: String,
        /// Kernels and blocks on the way, producers first.
        kernels: Vec<Held>,
        /// What was said last of each two neighbours, if their merge was tried.
        seams: Vec<Option<Reason>>,
    },
    /// No data goes from one to the other.
    Apart {
        /// The function.
        function: String,
        /// Kernels that have them.
        kernels: [Held; 2],
        /// What both read.
        both_read: Vec<String>,
    },
    /// One is in a block, the other in the function that calls it.
    Block {
        /// The function.
        function: String,
        /// The block, compiled once for all its repetitions.
        block: String,
    },
    /// No kernel computes one of them.
    Absent {
        /// The name.
        name: String,
    },
    /// They are in functions that have nothing to do with each other.
    Elsewhere {
        /// Functions of the first.
        first: Vec<String>,
        /// Functions of the second.
        second: Vec<String>,
    },
}

/// Answers for two names, function by function; the kernels that are nearest to each other speak where several have them.
///
/// # Errors
/// `MLXC0965` for a name that nothing has.
pub fn why_not(names: &Names<'_>, a: &str, b: &str) -> Result<Vec<Answer>, Diagnostic> {
    let (first, second) = (names.find(a)?, names.find(b)?);
    for (name, n) in [(a, &first), (b, &second)] {
        if n.kernels.is_empty() {
            return Ok(vec![Answer::Absent { name: name.into() }]);
        }
    }
    let kernels = &names.reasons.kernels;
    let functions = |n: &Named| {
        let mut out: Vec<String> = Vec::new();
        for k in &n.kernels {
            if !out.contains(&kernels[*k].function) {
                out.push(kernels[*k].function.clone());
            }
        }
        out
    };
    let (of_first, of_second) = (functions(&first), functions(&second));
    let mut out = Vec::new();
    for function in of_first.iter().filter(|f| of_second.contains(f)) {
        let here = |n: &Named| n.kernels.iter().copied().filter(|k| kernels[*k].function == *function).collect();
        out.push(in_function(names, function, (a, &first, here(&first)), (b, &second, here(&second))));
    }
    if out.is_empty() {
        let calls =
            |f: &String, g: &String| kernels.iter().any(|k| k.passed.is_some() && k.function == *f && k.kernel == *g);
        for (f, g) in of_first.iter().flat_map(|f| of_second.iter().map(move |g| (f, g))) {
            if calls(f, g) || calls(g, f) {
                let (function, block) = if calls(f, g) { (f, g) } else { (g, f) };
                out.push(Answer::Block { function: function.clone(), block: block.clone() });
            }
        }
    }
    if out.is_empty() {
        out.push(Answer::Elsewhere { first: of_first, second: of_second });
    }
    Ok(out)
}

/// A name, how it was understood, and its kernels in one function.
type Side<'a> = (&'a str, &'a Named, Vec<usize>);

fn in_function(names: &Names<'_>, function: &str, a: Side<'_>, b: Side<'_>) -> Answer {
    let kernels = &names.reasons.kernels;
    let function = function.to_string();
    if let Some(k) = a.2.iter().find(|k| b.2.contains(k)) {
        let k = &kernels[*k];
        return Answer::Together { function, kernel: k.kernel.clone(), values: k.values.clone() };
    }
    let pair = |x: usize, y: usize| [Held::new(names, x), Held::new(names, y)];
    let pairs = || a.2.iter().flat_map(|x| b.2.iter().map(move |y| (*x, *y)));
    // What was said of the very values that are asked for comes first.
    let mut merges = Vec::new();
    if a.1.kind == Kind::Value && b.1.kind == Kind::Value {
        let has = |side: &[String], name: &str| side.iter().any(|v| v == name);
        let both = |r: &&Reason| {
            r.function == function
                && !r.is_merged()
                && (has(&r.first, a.0) && has(&r.second, b.0) || has(&r.first, b.0) && has(&r.second, a.0))
        };
        merges = names.reasons.merges.iter().rev().filter(both).cloned().collect();
    }
    let tried = || pairs().find(|(x, y)| !said(names, *x, *y).is_empty());
    if !merges.is_empty() {
        let (x, y) = tried().or_else(|| pairs().next()).unwrap_or_default();
        return Answer::Refused { function, kernels: pair(x, y), merges };
    }
    if let Some((x, y)) = tried() {
        let merges = said(names, x, y).into_iter().cloned().collect();
        return Answer::Refused { function, kernels: pair(x, y), merges };
    }
    let chains = pairs().flat_map(|(x, y)| [path(kernels, x, y), path(kernels, y, x)]).flatten();
    if let Some(chain) = chains.min_by_key(Vec::len) {
        let seams = chain.windows(2).map(|w| said(names, w[0], w[1]).first().map(|r| (*r).clone())).collect();
        return Answer::Chain { function, kernels: chain.iter().map(|k| Held::new(names, *k)).collect(), seams };
    }
    let shared = |x: usize, y: usize| -> Vec<String> {
        kernels[x].inputs.iter().filter(|v| kernels[y].inputs.contains(v)).cloned().collect()
    };
    let (x, y) = pairs().max_by_key(|(x, y)| shared(*x, *y).len()).unwrap_or_default();
    Answer::Apart { function, kernels: pair(x, y), both_read: shared(x, y) }
}

/// What was said of merging parts of two kernels, newest first: of sides that are wholly in them, else of some that are
/// partly, since values move between kernels at the end.
fn said<'a>(names: &Names<'a>, x: usize, y: usize) -> Vec<&'a Reason> {
    let (x, y) = (&names.reasons.kernels[x], &names.reasons.kernels[y]);
    let some = |k: &Computed, side: &[String]| side.iter().any(|v| k.values.contains(v));
    let fits = |within: &dyn Fn(&Computed, &[String]) -> bool| -> Vec<&'a Reason> {
        let between = |r: &&Reason| {
            r.function == x.function
                && !r.is_merged()
                && (within(x, &r.first) && within(y, &r.second) || within(y, &r.first) && within(x, &r.second))
        };
        names.reasons.merges.iter().rev().filter(between).collect()
    };
    let whole = fits(&|k, side| k.holds(side));
    if whole.is_empty() { fits(&some) } else { whole }
}

/// The shortest way that data goes from one kernel to another.
fn path(kernels: &[Computed], from: usize, to: usize) -> Option<Vec<usize>> {
    // From the reader to what it reads.
    let mut before = vec![None; kernels.len()];
    let mut queue = VecDeque::from([to]);
    while let Some(k) = queue.pop_front() {
        if k == from {
            let mut out = vec![k];
            let mut at = k;
            while let Some(next) = before[at] {
                out.push(next);
                at = next;
            }
            return Some(out);
        }
        for r in kernels[k].reads.iter().map(|r| *r as usize).filter(|r| *r < k) {
            if before[r].is_none() {
                before[r] = Some(k);
                queue.push_back(r);
            }
        }
    }
    None
}

/// Answers as text.
pub fn print(answers: &[Answer], a: &str, b: &str, plan: &mlxc_package::plan::Plan) -> String {
    let mut out = String::new();
    for answer in answers {
        match answer {
            Answer::Together { function, kernel, values } => {
                let _ = writeln!(out, "in {function}, one kernel has both: `{kernel}`");
                let fused = plan.kernels.iter().find(|k| k.name == *kernel).map(|k| k.comment.clone());
                let _ = writeln!(out, "    fused: {}", fused.unwrap_or_else(|| values.join(", ")));
            }
            Answer::Refused { function, kernels: [x, y], merges } => {
                for r in merges {
                    reason(&mut out, r);
                }
                let _ = writeln!(out, "in {function} they are in {x} and {y}");
            }
            Answer::Chain { function, kernels, seams } => {
                let _ = writeln!(out, "in {function}, no merge of both was tried; data goes this way:");
                for (w, seam) in kernels.windows(2).zip(seams) {
                    let said = match seam {
                        Some(r) => format!("{} [{}]", r.text, r.code),
                        None if w.iter().any(|k| k.block) => "kernels do not reach into a block".into(),
                        None => "no merge of these was tried".into(),
                    };
                    let _ = writeln!(out, "    {} -> {}: {said}", w[0], w[1]);
                }
            }
            Answer::Apart { function, kernels: [x, y], both_read } if both_read.is_empty() => {
                let _ = writeln!(
                    out,
                    "in {function}, no data goes from one to the other and nothing is read by both, so that no merge was tried: \
                     {x} and {y}"
                );
            }
            Answer::Apart { function, kernels: [x, y], both_read } => {
                let _ = writeln!(
                    out,
                    "in {function}, no data goes from one to the other; both read `{}`, and no merge was tried: {x} and {y}",
                    both_read.join("`, `")
                );
            }
            Answer::Block { function, block } => {
                let _ = writeln!(
                    out,
                    "one is in {block}, which {function} calls once for each repetition, and the other in {function}: kernels \
                     do not reach into a block"
                );
            }
            Answer::Absent { name } => {
                let _ = writeln!(
                    out,
                    "no kernel computes `{name}`: it was folded, or only says where an element is found, or nothing needs it"
                );
            }
            Answer::Elsewhere { first, second } => {
                let _ = writeln!(
                    out,
                    "`{a}` is in {}, `{b}` in {}: other functions are other kernels",
                    first.join(", "),
                    second.join(", ")
                );
            }
        }
    }
    out
}

/// A merge with the figures that it was weighed by.
fn reason(out: &mut String, r: &Reason) {
    let _ = writeln!(out, "{} [{}]", r.text, r.code);
    let _ = writeln!(out, "    in {}: {{{}}} + {{{}}}", r.function, r.first.join(", "), r.second.join(", "));
    let mut figures = format!("two kernels {:.2} µs", r.apart_seconds * 1e6);
    if let Some(s) = r.together_seconds {
        let _ = write!(figures, ", one {:.2} µs", s * 1e6);
    }
    if let Some([two, one]) = r.peak_bytes {
        let _ = write!(figures, "; {two} bytes live at the peak with two, {one} with one");
    }
    let _ = writeln!(out, "    {figures}");
}
