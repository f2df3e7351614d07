//! Sizes that templates choose: by a formula of the profile, or as a record of measurements says.
//!
//! A [`Knob`] is a size that may be chosen without changing what a kernel computes or which kernels exist: only how much of it a
//! task does at once. A template asks for it by [`Target::choose`](crate::lower::emit::Target::choose) with its formula's value.
//! Whoever adds one declares it here, in [`KNOBS`], and asks; measuring, the file and its checks follow.

use crate::lower::emit::Region;
use mlxc_ir::Scheme;
use mlxc_ir::graph::{Function, Op, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// A size that a template chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knob {
    /// The template that asks.
    pub template: &'static str,
    /// Its name, unique in the template.
    pub name: &'static str,
    /// Values it may take besides the formula's.
    pub values: &'static [i64],
}

/// Blocks of columns that a task of a product with a weight computes at once; fewer where the parts of the product end.
pub const MATMUL_BLOCKS: Knob = Knob { template: "matmul", name: "blocks", values: &[1, 2, 4, 8, 16] };
/// Register tiles of rows that share one pass over the weight; fewer where there are fewer rows.
pub const MATMUL_TILES: Knob = Knob { template: "matmul", name: "tiles", values: &[1, 2, 3, 4, 6, 8] };
/// Register tiles of rows of a block of a product of computed factors.
pub const PRODUCT_TILES: Knob = Knob { template: "product", name: "tiles", values: &[2, 4, 8, 16] };
/// Vectors of columns of such a block.
pub const PRODUCT_VECTORS: Knob = Knob { template: "product", name: "vectors", values: &[4, 8, 16] };
/// Rows of an attention's task, those of all query heads of a key-value head together.
pub const ATTENTION_ROWS: Knob = Knob { template: "attention", name: "rows", values: &[8, 16, 32, 64, 128] };

/// Every knob there is.
pub const KNOBS: &[Knob] = &[MATMUL_BLOCKS, MATMUL_TILES, PRODUCT_TILES, PRODUCT_VECTORS, ATTENTION_ROWS];

/// The knobs of a template.
pub fn of_template(template: &str) -> impl Iterator<Item = &'static Knob> {
    KNOBS.iter().filter(move |k| k.template == template)
}

/// The node of a region around which a template builds its kernel, if the template has knobs.
pub fn anchor(f: &Function, nodes: &Region, template: &str) -> Option<u32> {
    of_template(template).next()?;
    let is_anchor = |op: &Op| match template {
        "attention" => matches!(op, Op::Sdpa { .. }),
        _ => matches!(op, Op::MatMul { .. } | Op::Int8MatMul { .. }),
    };
    nodes.iter().copied().find(|n| is_anchor(&f.nodes[*n as usize].op))
}

/// What a kernel is called in a record: the template, its anchor's op, and the types of what that reads and makes, with the
/// bounds of symbols. Fused nodes do not count, so that a choice holds while kernels grow, and equal layers share one.
pub fn describe(f: &Function, template: &str, anchor: u32) -> String {
    let node = &f.nodes[anchor as usize];
    let mut out = format!("{template} {}(", node.op.name());
    if let Op::MatMul { transpose_a, transpose_b } = node.op {
        out.push_str(if transpose_a { "transposed " } else { "" });
        out.push_str(if transpose_b { "by rows " } else { "" });
    }
    for (i, v) in node.inputs.iter().enumerate() {
        let _ = write!(out, "{}{}", if i > 0 { ", " } else { "" }, f.ty(*v).display(&f.symbols));
        if let Some(scheme) = scheme(f, *v) {
            let _ = write!(out, " of {scheme}");
        }
    }
    let _ = write!(out, ") -> {}", node.types[0].display(&f.symbols));
    let mut symbols = BTreeSet::new();
    for d in node.inputs.iter().flat_map(|v| &f.ty(*v).shape) {
        d.symbols(&mut |id| {
            symbols.insert(id.0);
        });
    }
    for s in symbols.iter().map(|id| &f.symbols[*id as usize]) {
        let _ = write!(out, ", {} in {}..={}", s.name, s.range.lo, s.range.hi);
    }
    out
}

/// How a factor is quantised, also where a gather picks it.
fn scheme(f: &Function, v: ValueId) -> Option<Scheme> {
    match &f.node(v).op {
        Op::Dequantize { scheme, .. } => Some(*scheme),
        Op::Gather { .. } => scheme(f, f.node(v).inputs[0]),
        _ => None,
    }
}

/// Choices of some kernels; the others are the formulas'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    kernels: BTreeMap<String, BTreeMap<&'static str, i64>>,
}

impl Choices {
    /// All by formula.
    pub const FORMULAS: &'static Choices = &Choices { kernels: BTreeMap::new() };

    /// True if all are by formula.
    pub fn is_empty(&self) -> bool {
        self.kernels.is_empty()
    }

    /// Chooses for the kernels of one description.
    ///
    /// # Panics
    /// On a value that the knob does not have.
    pub fn set(&mut self, kernel: &str, knob: &Knob, value: i64) {
        assert!(knob.values.contains(&value), "a knob takes one of its values");
        self.kernels.entry(kernel.to_string()).or_default().insert(knob.name, value);
    }

    /// What is chosen, by kernel and knob.
    pub fn kernels(&self) -> &BTreeMap<String, BTreeMap<&'static str, i64>> {
        &self.kernels
    }

    /// The choice for a kernel around an anchor.
    pub fn get(&self, knob: &Knob, f: &Function, anchor: u32) -> Option<i64> {
        if self.is_empty() {
            return None;
        }
        self.kernels.get(&describe(f, knob.template, anchor))?.get(knob.name).copied()
    }
}
