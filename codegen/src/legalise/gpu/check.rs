//! What a legal GPU kernel may hold, and the limits of a launch: the writers rely on both.

use mlxc_ir::kernel::{
    ArgKind, Block, Builtin, ExprId, ExprKind, Index, IndexId, Kernel, Memory, Phase, Place, Shape, Step, Stmt,
    Subgroup, TileOrder, Type,
};
use mlxc_ir::profile::{Feature, SubgroupWidth, TargetProfile};
use mlxc_ir::{DType, Diagnostic};

use super::narrow::is_narrow;
use super::words::{word_load, word_value};
use crate::legalise::refuse;

/// Elements of the widest vector of shading languages.
const LANES: u8 = 4;

/// Finds what no pass has made legal, and limits that are exceeded.
pub(super) fn run(kernel: &Kernel, profile: &TargetProfile) -> Result<(), Vec<Diagnostic>> {
    let mut check = Check { kernel, profile, found: Vec::new() };
    check.parameters();
    for phase in kernel.phases() {
        check.phase(phase);
    }
    if check.found.is_empty() { Ok(()) } else { Err(check.found) }
}

struct Check<'k> {
    kernel: &'k Kernel,
    profile: &'k TargetProfile,
    found: Vec<Diagnostic>,
}

impl Check<'_> {
    fn push(&mut self, d: Diagnostic) {
        if !self.found.contains(&d) {
            self.found.push(d);
        }
    }

    fn refuse(&mut self, what: impl std::fmt::Display) {
        let d = refuse(self.kernel, what);
        self.push(d);
    }

    fn limit(&mut self, id: u16, what: &str, limit: u64, found: u64) {
        if found > limit {
            let message = format!("kernel `{}` has too many {what}", self.kernel.name);
            self.push(Diagnostic::new(id, message).expected(format!("at most {limit}")).found(found.to_string()));
        }
    }

    fn parameters(&mut self) {
        let k = self.kernel;
        self.limit(541, "buffers", u64::from(self.profile.limits.buffers), k.buffers.len() as u64);
        let scalars = k.symbols.len() + k.args.len() + counters(&k.steps);
        self.limit(543, "bytes of scalars", u64::from(self.profile.limits.scalar_bytes), 4 * scalars as u64);
        for b in &k.buffers {
            self.stored(b.dtype, &b.name);
        }
        for a in &k.args {
            match a.kind {
                ArgKind::Scalar(d) if !matches!(d, DType::F32 | DType::I32 | DType::U32) => {
                    self.refuse(format!("an argument of type {d}, `{}`", a.name));
                }
                _ => {}
            }
        }
    }

    /// Memory of a type that is stored, or lies in words.
    fn stored(&mut self, dtype: DType, name: &str) {
        if !self.profile.storage.contains(&dtype) && !is_narrow(self.profile, dtype) {
            self.refuse(format!("{dtype} in `{name}`"));
        }
    }

    fn phase(&mut self, phase: &Phase) {
        self.limit(542, "lanes in a group", u64::from(self.profile.limits.group_lanes), u64::from(phase.lanes));
        let bytes = phase.memory.iter().fold(0u64, |sum, g| {
            // Arrays are aligned to the widest vector.
            sum.saturating_add(self.kernel.group(*g).bytes().next_multiple_of(16))
        });
        self.limit(540, "bytes of group memory", self.profile.limits.group_bytes, bytes);
        for g in &phase.memory {
            let (dtype, name) = (self.kernel.group(*g).dtype, self.kernel.group(*g).name.clone());
            self.stored(dtype, &name);
        }
        match (phase.subgroup, self.profile.subgroup) {
            (Subgroup::None, _) | (Subgroup::Any, SubgroupWidth::Any | SubgroupWidth::Fixed(_)) => {}
            (Subgroup::Fixed(a), SubgroupWidth::Fixed(b)) if a == b => {}
            (Subgroup::Fixed(w), _) => self.refuse(format!("subgroups of {w} lanes")),
            (Subgroup::Any, SubgroupWidth::None) => self.refuse("subgroups"),
        }
        self.block(&phase.body);
    }

    fn block(&mut self, block: &Block) {
        for stmt in block {
            match stmt {
                Stmt::Let(_, e) => self.expression(*e),
                Stmt::Declare(local, value) => {
                    self.ty(self.kernel.local(*local).ty);
                    value.iter().for_each(|e| self.expression(*e));
                }
                Stmt::LetIndex(_, i) => self.index(*i),
                Stmt::Set(_, at, e) => {
                    at.iter().for_each(|i| self.index(*i));
                    self.expression(*e);
                }
                Stmt::Store { place, value, .. } => {
                    self.place(place);
                    let narrow = is_narrow(self.profile, self.kernel.memory_dtype(place.memory));
                    match word_value(self.kernel, *value).filter(|_| narrow) {
                        Some(carrier) => self.expression(carrier),
                        None => self.expression(*value),
                    }
                }
                Stmt::Atomic(_, place, value) => {
                    self.place(place);
                    self.expression(*value);
                    if matches!(place.memory, Memory::Buffer(_)) && !self.profile.has(Feature::Atomics) {
                        self.refuse("an atomic");
                    }
                }
                Stmt::Prefetch(_) => self.refuse("prefetch"),
                Stmt::For { lo, hi, body, .. } => {
                    self.index(*lo);
                    self.index(*hi);
                    self.block(body);
                }
                Stmt::If { cond, then, otherwise } => {
                    self.expression(*cond);
                    self.block(then);
                    self.block(otherwise);
                }
                Stmt::Barrier(_) => {}
            }
        }
    }

    fn place(&mut self, place: &Place) {
        place.indices(&mut |i| self.index(i));
        match place.shape {
            Shape::One => {}
            Shape::Vector(n) if n <= LANES => {}
            Shape::Vector(n) => self.refuse(format!("an access to {n} elements")),
            Shape::First { .. } => self.refuse("an access to the first elements of a vector"),
            Shape::Tile(rows, columns) => self.refuse_tile(Type::scalar(DType::Bool), rows, columns),
        }
    }

    /// Refuses a tile unless the target multiplies its like.
    fn refuse_tile(&mut self, ty: Type, rows: u8, columns: u8) {
        let native = self.profile.tiles.iter().any(|t| {
            let sizes = (rows, columns) == (t.rows, t.columns) || (rows, columns) == (t.rows, t.depth);
            sizes && (!ty.is_tile() || [t.input, t.accumulator].contains(&ty.dtype()))
        });
        if !native {
            self.refuse(format!("a matrix tile of {rows}x{columns}"));
        }
    }

    fn index(&mut self, id: IndexId) {
        if let Index::Builtin(b) = self.kernel.index.get(id)
            && b != Builtin::Lane
            && self.profile.subgroup == SubgroupWidth::None
        {
            self.refuse(b.name());
        }
        if let Index::Clamp(value, _, _) = self.kernel.index.get(id) {
            self.expression(value);
        }
        self.kernel.index.operands(id, &mut |i| self.index(i));
    }

    fn ty(&mut self, ty: Type) {
        if let Type::Tile { rows, columns, .. } = ty {
            return self.refuse_tile(ty, rows, columns);
        }
        let d = ty.dtype();
        if d != DType::Bool && !self.profile.storage.contains(&d) {
            self.refuse(format!("values of {d}"));
        }
        if ty.lanes() > LANES {
            self.refuse(format!("vectors of {} elements", ty.lanes()));
        }
    }

    fn expression(&mut self, id: ExprId) {
        let expr = self.kernel.expr(id);
        self.ty(expr.ty);
        if let Some(place) = word_load(self.kernel, id)
            && is_narrow(self.profile, self.kernel.memory_dtype(place.memory))
        {
            return self.place(place);
        }
        expr.kind.operands(&mut |e| self.expression(e));
        expr.kind.indices(&mut |i| self.index(i));
        if let ExprKind::Load(place, _) | ExprKind::LoadTile { place, .. } = &expr.kind {
            self.place(place);
        }
        let dtype = expr.ty.dtype();
        match &expr.kind {
            ExprKind::Unary(..) | ExprKind::Binary(..) | ExprKind::Fma(..)
                if dtype != DType::Bool && !self.profile.arithmetic.contains(&dtype) =>
            {
                self.refuse(format!("arithmetic on {}", expr.ty));
            }
            ExprKind::Dot { .. } => self.refuse("a dot product"),
            ExprKind::Vector(parts) if parts.iter().any(|p| self.kernel.expr(*p).ty.lanes() > 1) => {
                self.refuse("a vector of vectors");
            }
            ExprKind::LoadTile { order: TileOrder::Interleaved(_), .. } => self.refuse("a tile of interleaved rows"),
            ExprKind::Lut(..) => self.refuse("lut"),
            ExprKind::Fold(op, _) => self.refuse(format!("{} of a vector", op.name())),
            ExprKind::Math(f, _) if !self.profile.math.contains_key(f) => self.refuse(f.name()),
            ExprKind::Mad(..) => self.refuse("mad"),
            ExprKind::Lanes(op, ..) => self.refuse(format!("lanes.{}", op.name())),
            ExprKind::Subgroup(..) if self.profile.subgroup == SubgroupWidth::None => {
                self.refuse("a subgroup operation");
            }
            _ => {}
        }
    }
}

fn counters(steps: &[Step]) -> usize {
    steps
        .iter()
        .map(|s| match s {
            Step::Phase(_) => 0,
            Step::Serial { body, .. } => 1 + counters(body),
        })
        .max()
        .unwrap_or(0)
}
