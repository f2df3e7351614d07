//! Scans: a running fold along each line. Sums and products of half types accumulate in f32.

use crate::lower::elementwise::{self, compute};
use crate::lower::emit::{Emitter, Lowered, Refusal};
use crate::lower::gpu::{self, is_gpu};
use crate::lower::line::{Lines, has_vectors};
use crate::lower::reduce::Combine;
use mlxc_ir::graph::{Op, ValueId};
use mlxc_ir::kernel::Access;
use mlxc_ir::{DType, Range};

/// Builds the kernel of a scan.
pub(super) fn build(e: &mut Emitter<'_, '_>, v: ValueId) -> Lowered<()> {
    let f = e.f;
    let node = f.node(v);
    let Op::Scan { op, axis, reverse, exclusive } = node.op else { unreachable!("called for scans") };
    let (x, to, at_axis) = (node.inputs[0], node.types[0].dtype, axis as usize);
    let shape = node.types[0].shape.clone();
    let bools = f.ty(x).dtype == DType::Bool;
    let acc = if bools { DType::I32 } else { compute(to) };
    let how = Combine::of_scan(op);
    if is_gpu(e.target.profile) && e.size_max(&shape[at_axis]) >= gpu::scan::LONG {
        return gpu::scan::build(e, v);
    }
    let lines = Lines { axes: vec![axis], vectors: has_vectors(&shape, &[axis]), ranges: 1 };
    e.lines(&shape, &lines, |e, task| {
        let first = e.literal(how.identity(acc, bools), acc);
        let total = e.k.var("total", if lines.vectors { first.splat(e.width) } else { first });
        let extent = &shape[at_axis];
        let n = e.size(extent)?;
        let most = (e.size_max(extent) as i64 - 1).max(0);
        let end = e
            .size_coord(extent)
            .ok_or_else(|| Refusal::new("symbolic-product", "a scanned extent is a product of symbols"))?;
        e.each("k", n, Range::new(0, most), 1, false, |e, c| {
            let mut at = task.at.clone();
            at[at_axis] = if reverse { end.offset(-1).plus(&c, -1) } else { c };
            let before = e.k.let_("before", total.get());
            let value = e.element(x, &at, acc)?;
            e.count(elementwise::binary_flops(how.binary()), &at);
            let next = e.k.let_("next", elementwise::binary(e.k, how.binary(), value, before));
            total.set(next);
            let out = if exclusive { before } else { next };
            let out = if to == DType::Bool { elementwise::cast(e.k, out, DType::I32, DType::Bool) } else { out };
            e.store(v, &at, out, Access::Write)
        })
    })
}
