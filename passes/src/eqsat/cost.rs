//! What a node costs, for extraction: a coarse model that only has to rank alternatives.
//!
//! Picoseconds on a machine of 20 GB/s, 200 Gflop/s and 2 µs a launch; symbols stand at their upper bounds. What will
//! fuse into its neighbours costs little, what is only a view next to nothing, and a composite less than its parts.

use super::graph::{ENode, Graph, Head, ty, weight};
use egg::Id;
use mlxc_ir::graph::{Op, TensorType};

const BYTE: u64 = 50;
const FLOP: u64 = 5;
const LAUNCH: u64 = 2_000_000;
const VIEW: u64 = 1_000;
const FUSED: u64 = 100_000;

/// The cost of one node, its operands not counted.
pub fn cost(g: &Graph<'_>, id: Id, node: &ENode) -> u64 {
    let Head::Op(op) = &node.head else { return 0 };
    let symbols = &g.analysis.function.symbols;
    let bytes = |t: &TensorType| t.max_bytes(symbols).saturating_mul(BYTE);
    let out = bytes(ty(g, id));
    let inputs = || node.children.iter().fold(0u64, |n, c| n.saturating_add(bytes(ty(g, *c))));
    // A fused op moves nothing; the share stands for where it does not fuse, and for its arithmetic.
    let fused = FUSED.saturating_add(out / 8);
    match op {
        Op::Full { .. } | Op::Iota { .. } | Op::FromSize { .. } | Op::Constant(_) => VIEW / 2,
        Op::Concat { axis: 0 } if node.children.iter().all(|c| weight(g, *c).is_some()) => VIEW,
        // Memory holds the codes; what reads them unpacks them.
        Op::Dequantize { .. } if node.children.iter().all(|c| g[*c].data.weight_only) => VIEW,
        Op::Concat { .. } | Op::Pad { .. } | Op::Gather { .. } | Op::TakeAlong { .. } | Op::GatherNd { .. } => {
            (2 * FUSED).saturating_add(out).saturating_add(out)
        }
        op if op.is_view() => VIEW,
        Op::Rope { .. } => fused.saturating_mul(2),
        Op::Reduce { .. } | Op::ArgReduce { .. } | Op::RmsNorm { .. } | Op::Softmax => LAUNCH.saturating_add(inputs()),
        // Lines are walked in order; a sort walks them once for every doubling of a run.
        Op::Scan { .. } | Op::Scatter { .. } | Op::ScatterAlong { .. } => {
            LAUNCH.saturating_add(inputs()).saturating_add(out)
        }
        Op::ArgSort { .. } => LAUNCH.saturating_add(inputs().saturating_add(out).saturating_mul(16)),
        Op::LayerNorm { .. } => LAUNCH.saturating_add(inputs().saturating_mul(3) / 2),
        Op::MatMul { .. } | Op::Int8MatMul { .. } => {
            let a = &ty(g, node.children[0]).shape;
            let turned = matches!(op, Op::MatMul { transpose_a: true, .. });
            let inner = if turned { &a[a.len() - 2] } else { &a[a.len() - 1] };
            let flops = flops(g, ty(g, id), inner.bounds(&g.analysis.function.ranges()).hi);
            LAUNCH.saturating_add(flops).saturating_add(inputs()).saturating_add(out)
        }
        Op::Sdpa { .. } => {
            let (q, k) = (ty(g, node.children[0]), ty(g, node.children[1]));
            let ranges = g.analysis.function.ranges();
            let keys = k.shape[2].bounds(&ranges).hi;
            let both = flops(g, q, keys).saturating_add(flops(g, ty(g, id), keys));
            LAUNCH.saturating_add(both).saturating_add(inputs()).saturating_add(out)
        }
        _ => fused,
    }
}

/// The time of `2 * inner` operations for each element.
fn flops(g: &Graph<'_>, out: &TensorType, inner: i64) -> u64 {
    let elements = out.elements().bounds(&g.analysis.function.ranges()).hi.max(0) as u64;
    elements.saturating_mul(inner.max(0) as u64).saturating_mul(2 * FLOP)
}
