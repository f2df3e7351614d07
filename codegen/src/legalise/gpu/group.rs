//! What the lanes of a group do together: reductions by subgroups where they have a known width or are the whole
//! group's, else by a tree in group memory; barriers of subgroups; values of lane 0.

use mlxc_ir::kernel::{
    BarrierScope, Builtin, Comparison, ExprId, ExprKind, FoldOp, GroupId, IndexId, Kernel, LocalKind, Memory, Place,
    Shape, Stmt, Subgroup, SubgroupOp, Type,
};
use mlxc_ir::profile::{SubgroupWidth, TargetProfile};
use mlxc_ir::{DType, Diagnostic};
use smallvec::{SmallVec, smallvec};

use crate::legalise::rewrite::{Rule, Site, rewrite};

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    rewrite(kernel, &mut Collective { width: profile.subgroup, arrays: Vec::new() })
}

struct Collective {
    width: SubgroupWidth,
    /// Group arrays of the phase in hand, by element type and extents.
    arrays: Vec<(DType, SmallVec<[u32; 2]>, GroupId)>,
}

impl Rule for Collective {
    fn phase(&mut self) {
        self.arrays.clear();
    }

    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let ty = at.kernel.expr(id).ty;
        Ok(match at.kernel.expr(id).kind {
            ExprKind::Lanes(_, 1, x) => x,
            ExprKind::Lanes(op, run, x) if ty.dtype() == DType::Bool => {
                let word = at.cast(x, DType::U32);
                let all = self.reduce(at, op, run, word);
                at.cast(all, DType::Bool)
            }
            ExprKind::Lanes(op, run, x) => self.reduce(at, op, run, x),
            ExprKind::Subgroup(SubgroupOp::Fold(op), x) if ty.dtype() == DType::Bool => {
                let word = at.cast(x, DType::U32);
                let all = subgroup(at, SubgroupOp::Fold(op), word);
                at.cast(all, DType::Bool)
            }
            ExprKind::GroupBroadcast(x) => self.broadcast(at, x),
            _ => id,
        })
    }

    fn statement(&mut self, _: &mut Site<'_>, stmt: Stmt) -> Result<Option<Stmt>, Diagnostic> {
        Ok(Some(match stmt {
            Stmt::Barrier(BarrierScope::Subgroup) if !matches!(self.width, SubgroupWidth::Fixed(_)) => {
                Stmt::Barrier(BarrierScope::Group)
            }
            other => other,
        }))
    }
}

impl Collective {
    fn reduce(&mut self, at: &mut Site<'_>, op: FoldOp, run: u32, x: ExprId) -> ExprId {
        let lanes = at.lanes;
        let ty = at.kernel.expr(x).ty;
        // Subgroup operations on 64-bit integers are nowhere a baseline.
        let narrow = ty.dtype().bytes() <= 4;
        match self.width {
            SubgroupWidth::Fixed(w) if narrow && lanes.is_multiple_of(u32::from(w)) => {
                at.subgroup = Subgroup::Fixed(w);
                let w = u32::from(w);
                if run < w {
                    return exchanged(at, op, run, x);
                }
                let all = subgroup(at, SubgroupOp::Fold(op), x);
                if run == w {
                    return all;
                }
                self.over_subgroups(at, op, all, Runs::Fixed { whole: lanes / w, run: run / w })
            }
            SubgroupWidth::Any if narrow && run == lanes && lanes.is_power_of_two() && lanes >= 4 => {
                at.subgroup = Subgroup::Any;
                let all = subgroup(at, SubgroupOp::Fold(op), x);
                self.over_subgroups(at, op, all, Runs::Any)
            }
            _ => self.tree(at, op, run, x),
        }
    }

    /// One value a subgroup, combined in order by every lane.
    fn over_subgroups(&mut self, at: &mut Site<'_>, op: FoldOp, value: ExprId, runs: Runs) -> ExprId {
        let ty = at.kernel.expr(value).ty;
        let length = match runs {
            Runs::Fixed { whole, .. } => whole,
            // The narrowest subgroup has four lanes.
            Runs::Any => at.lanes / 4,
        };
        let array = self.array(at, ty, length);
        let value = at.bind(value);
        let [id, lane, width] =
            [Builtin::SubgroupId, Builtin::SubgroupLane, Builtin::SubgroupWidth].map(|b| at.kernel.index.builtin(b));
        let zero = at.kernel.index.constant(0);
        let value = at.get(value);
        let store = store(at, array, ty, id, value);
        let first = compare(at, Comparison::Eq, lane, zero);
        at.before.push(Stmt::If { cond: first, then: vec![store], otherwise: Vec::new() });
        at.before.push(Stmt::Barrier(BarrierScope::Group));
        let (base, count) = match runs {
            Runs::Fixed { run, whole } if run == whole => (zero, at.kernel.index.constant(i64::from(run))),
            Runs::Fixed { run, .. } => {
                let run = i64::from(run);
                let base = at.kernel.index.div(id, run);
                (at.kernel.index.scale(base, run), at.kernel.index.constant(run))
            }
            Runs::Any => {
                let lanes = at.kernel.index.constant(i64::from(at.lanes));
                (zero, at.kernel.index.div_by(lanes, width))
            }
        };
        let initial = load(at, array, ty, base);
        let sum = at.local(ty, LocalKind::Var);
        at.before.push(Stmt::Declare(sum, Some(initial)));
        let name = at.index_name();
        let var = at.kernel.push_var(name);
        let i = at.kernel.index.var(var);
        let i = at.kernel.index.add(base, i);
        let next = load(at, array, ty, i);
        let so_far = at.get(sum);
        let combined = at.binary(op.binary(), so_far, next);
        let body = vec![Stmt::Set(sum, SmallVec::new(), combined)];
        let one = at.kernel.index.constant(1);
        at.before.push(Stmt::For { var, lo: one, hi: count, step: 1, unroll: false, body });
        at.before.push(Stmt::Barrier(BarrierScope::Group));
        at.get(sum)
    }

    /// Halves of each run combined again and again, and the first lane's value read by all.
    fn tree(&mut self, at: &mut Site<'_>, op: FoldOp, run: u32, x: ExprId) -> ExprId {
        let ty = at.kernel.expr(x).ty;
        let array = self.array(at, ty, at.lanes);
        let lane = at.kernel.index.builtin(Builtin::Lane);
        let run_length = i64::from(run);
        let whole = run == at.lanes;
        let within = if whole { lane } else { at.kernel.index.modulo(lane, run_length) };
        let sum = at.local(ty, LocalKind::Var);
        at.before.push(Stmt::Declare(sum, Some(x)));
        let value = at.get(sum);
        let first = store(at, array, ty, lane, value);
        at.before.push(first);
        let mut half = run_length / 2;
        while half >= 1 {
            at.before.push(Stmt::Barrier(BarrierScope::Group));
            let bound = at.kernel.index.constant(half);
            let cond = compare(at, Comparison::Lt, within, bound);
            let partner = at.kernel.index.add(lane, bound);
            let (a, b) = (at.get(sum), load(at, array, ty, partner));
            let combined = at.binary(op.binary(), a, b);
            let value = at.get(sum);
            let then = vec![Stmt::Set(sum, SmallVec::new(), combined), store(at, array, ty, lane, value)];
            at.before.push(Stmt::If { cond, then, otherwise: Vec::new() });
            half /= 2;
        }
        at.before.push(Stmt::Barrier(BarrierScope::Group));
        let first = if whole {
            at.kernel.index.constant(0)
        } else {
            let q = at.kernel.index.div(lane, run_length);
            at.kernel.index.scale(q, run_length)
        };
        let all = load(at, array, ty, first);
        let all = at.bind(all);
        // The array is free again for the next use of it.
        at.before.push(Stmt::Barrier(BarrierScope::Group));
        at.get(all)
    }

    /// Lane 0 stores, and all load what is then the same for all.
    fn broadcast(&mut self, at: &mut Site<'_>, x: ExprId) -> ExprId {
        let ty = at.kernel.expr(x).ty;
        let is_bool = ty.dtype() == DType::Bool;
        let x = if is_bool { at.cast(x, DType::U32) } else { x };
        let ty = at.kernel.expr(x).ty;
        let array = self.array(at, ty, 1);
        let [lane, zero] = [at.kernel.index.builtin(Builtin::Lane), at.kernel.index.constant(0)];
        let x = at.bind(x);
        let value = at.get(x);
        let first = compare(at, Comparison::Eq, lane, zero);
        let then = vec![store(at, array, ty, zero, value)];
        at.before.push(Stmt::If { cond: first, then, otherwise: Vec::new() });
        at.before.push(Stmt::Barrier(BarrierScope::Group));
        let same = load(at, array, ty, zero);
        let same = at.kernel.push_expr(ExprKind::GroupBroadcast(same), ty);
        let same = at.bind(same);
        at.before.push(Stmt::Barrier(BarrierScope::Group));
        let same = at.get(same);
        if is_bool { at.cast(same, DType::Bool) } else { same }
    }

    /// The phase's array of so many values.
    fn array(&mut self, at: &mut Site<'_>, ty: Type, length: u32) -> GroupId {
        let mut shape: SmallVec<[u32; 2]> = smallvec![length];
        if ty.lanes() > 1 {
            shape.push(u32::from(ty.lanes()));
        }
        if let Some((.., id)) = self.arrays.iter().find(|(d, s, _)| *d == ty.dtype() && *s == shape) {
            return *id;
        }
        let id = at.group_array("partial", ty.dtype(), &shape);
        self.arrays.push((ty.dtype(), shape, id));
        id
    }
}

/// How many subgroups there are, and how many are combined.
#[derive(Clone, Copy)]
enum Runs {
    Fixed { whole: u32, run: u32 },
    Any,
}

fn subgroup(at: &mut Site<'_>, op: SubgroupOp, x: ExprId) -> ExprId {
    let ty = at.kernel.expr(x).ty;
    at.kernel.push_expr(ExprKind::Subgroup(op, x), ty)
}

/// A ladder of exchanges over aligned runs shorter than a subgroup.
fn exchanged(at: &mut Site<'_>, op: FoldOp, run: u32, x: ExprId) -> ExprId {
    let mut value = at.bind(x);
    let mut distance = run / 2;
    while distance >= 1 {
        let (mine, theirs) = (at.get(value), at.get(value));
        let theirs = subgroup(at, SubgroupOp::Exchange(distance as u8), theirs);
        let both = at.binary(op.binary(), mine, theirs);
        value = at.bind(both);
        distance /= 2;
    }
    at.get(value)
}

fn compare(at: &mut Site<'_>, by: Comparison, a: IndexId, b: IndexId) -> ExprId {
    at.kernel.push_expr(ExprKind::CompareIndex(by, a, b), Type::scalar(DType::Bool))
}

fn load(at: &mut Site<'_>, array: GroupId, ty: Type, i: IndexId) -> ExprId {
    let place = place(at.kernel, array, ty, i);
    at.kernel.push_expr(ExprKind::Load(place, None), ty)
}

fn store(at: &mut Site<'_>, array: GroupId, ty: Type, i: IndexId, value: ExprId) -> Stmt {
    Stmt::Store { place: place(at.kernel, array, ty, i), value, nontemporal: false }
}

fn place(kernel: &mut Kernel, array: GroupId, ty: Type, i: IndexId) -> Place {
    let memory = Memory::Group(array);
    match ty.lanes() {
        1 => Place { memory, at: smallvec![i], shape: Shape::One },
        n => Place { memory, at: smallvec![i, kernel.index.constant(0)], shape: Shape::Vector(n) },
    }
}
