//! Which columns of a product each output is computed from.

use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered, Refusal, Region, home, is_free};
use crate::lower::pull;
use mlxc_ir::Size;
use mlxc_ir::graph::{Function, Op, ValueId};

/// Columns of the product that one set of outputs is computed from.
#[derive(Clone, Debug)]
pub(in crate::lower) struct Part {
    /// Extent of the outputs' column space.
    pub columns: i64,
    /// First column of the product, for the spine.
    pub start: i64,
    /// First columns of every stretch of the product the outputs read.
    pub segments: Vec<i64>,
    pub outputs: Vec<ValueId>,
}

/// Groups outputs by the columns they come from.
pub(in crate::lower) fn parts(
    f: &Function,
    region: &Region,
    anchor: ValueId,
    outputs: &[ValueId],
) -> Lowered<Vec<Part>> {
    let whole = f.ty(anchor).shape.last().and_then(Size::as_const).expect("a weight's shape is constant");
    let mut parts: Vec<Part> = Vec::new();
    for v in outputs {
        let spine = spine(f, region, anchor, stored_value(f, *v))?;
        let (start, columns) = match spine.first().map(|v| f.node(*v)) {
            Some(n) => match &n.op {
                Op::Slice { start, stop, .. } => column_slice(f, n, start, stop)?,
                _ => (0, whole),
            },
            None => (0, whole),
        };
        let mut segments = Vec::new();
        read_segments(f, region, anchor, stored_value(f, *v), &mut segments, &mut Vec::new())?;
        segments.sort_unstable();
        segments.dedup();
        match parts.iter_mut().find(|p| p.start == start && p.columns == columns) {
            Some(p) => {
                p.outputs.push(*v);
                p.segments.extend(segments);
                p.segments.sort_unstable();
                p.segments.dedup();
            }
            None => parts.push(Part { columns, start, segments, outputs: vec![*v] }),
        }
    }
    parts.sort_by_key(|p| p.start);
    Ok(parts)
}

/// What an output stores: a state write stores its update.
pub(in crate::lower) fn stored_value(f: &Function, v: ValueId) -> ValueId {
    if home(f, v) == v { v } else { f.node(v).inputs[1] }
}

fn column_slice(f: &Function, n: &mlxc_ir::graph::Node, start: &[Size], stop: &[Size]) -> Lowered<(i64, i64)> {
    let x = &f.ty(n.inputs[0]).shape;
    let Op::Slice { step, .. } = &n.op else { unreachable!("called for slices") };
    let n = x.len() - 1;
    let whole = (0..n).all(|i| start[i].as_const() == Some(0) && stop[i] == x[i]);
    let rows_whole = whole && step.iter().all(|s| *s == 1);
    match (rows_whole, start[n].as_const(), stop[n].as_const()) {
        (true, Some(a), Some(b)) => Ok((a, b - a)),
        _ => Err(Refusal::new("slice", "the product is sliced by rows or with steps")),
    }
}

/// The values from the anchor (exclusive) to `v`, along one path.
pub(in crate::lower) fn spine(f: &Function, region: &Region, anchor: ValueId, v: ValueId) -> Lowered<Vec<ValueId>> {
    fn walk(f: &Function, region: &Region, anchor: ValueId, v: ValueId, path: &mut Vec<ValueId>) -> bool {
        if v == anchor {
            return true;
        }
        let n = f.node(v);
        if !(region.contains(&v.node) || is_free(f, v.node)) {
            return false;
        }
        if n.inputs.iter().any(|x| walk(f, region, anchor, *x, path)) {
            path.push(v);
            return true;
        }
        false
    }
    let mut path = Vec::new();
    if walk(f, region, anchor, v, &mut path) {
        return Ok(path);
    }
    Err(Refusal::new("unrelated", format!("`{}` does not depend on the product", f.value_name(v))))
}

/// First columns of the slices of the product that `v` reads; 0 for a direct read.
fn read_segments(
    f: &Function,
    region: &Region,
    anchor: ValueId,
    v: ValueId,
    out: &mut Vec<i64>,
    seen: &mut Vec<ValueId>,
) -> Lowered<()> {
    if seen.contains(&v) {
        return Ok(());
    }
    seen.push(v);
    let n = f.node(v);
    if v == anchor {
        out.push(0);
        return Ok(());
    }
    if !(region.contains(&v.node) || is_free(f, v.node)) {
        return Ok(());
    }
    if let Op::Slice { start, stop, .. } = &n.op
        && n.inputs[0] == anchor
    {
        out.push(column_slice(f, n, start, stop)?.0);
        return Ok(());
    }
    n.inputs.iter().try_for_each(|x| read_segments(f, region, anchor, *x, out, seen))
}

/// Coordinates of the last value of a path, from those of the anchor at its beginning.
pub(in crate::lower) fn push(e: &mut Emitter<'_, '_>, path: &[ValueId], start: &[Coord]) -> Lowered<Vec<Coord>> {
    let mut at = start.to_vec();
    let f = e.f;
    for (i, v) in path.iter().enumerate() {
        let n = f.node(*v);
        at = match &n.op {
            // The first slice is what made the part.
            Op::Slice { .. } if i == 0 => at,
            Op::Reshape { shape } => {
                let spine_input = n.inputs[0];
                pull::reshape(&mut e.space, &f.ty(spine_input).shape.clone(), shape, &at)
                    .ok_or_else(|| Refusal::new("reshape", "a reshape after the product has no affine indices"))?
            }
            Op::Transpose { perm } => perm.iter().map(|p| at[*p as usize].clone()).collect(),
            Op::Reverse { axes } => {
                for a in axes {
                    let d = e.size_coord(&n.types[0].shape[*a as usize]);
                    let d = d.ok_or_else(|| Refusal::new("symbolic-product", "a reversed extent is a product"))?;
                    at[*a as usize] = d.offset(-1).plus(&at[*a as usize], -1);
                }
                at
            }
            op if op.is_elementwise() => at,
            op => {
                let text = format!("`{}` after a product changes its shape", op.name());
                return Err(Refusal::new("epilogue", text));
            }
        };
    }
    Ok(at)
}
