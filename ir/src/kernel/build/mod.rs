//! Building kernels: what lowering templates are written in.
//!
//! Handles borrow the builder and are `Copy`; operators are overloaded; closures open blocks. A mistake in a template
//! (a wrong type, a value used outside its block) is a broken invariant and panics with its name.

mod value;

pub use value::{Buf, Group, Ix, PlaceRef, Reg, Val, Var};

use super::types::*;
use mlxc_package::DType;
use smallvec::SmallVec;
use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

/// What the value of an expression may depend on besides its operands.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Local(LocalId),
    Memory(Memory),
}

struct Loop {
    began: u32,
    /// Reads of state inside the loop by expressions made before it.
    early: Vec<State>,
}

struct Inner {
    kernel: Kernel,
    blocks: Vec<Block>,
    /// Names visible in each open block, the kernel's own first.
    names: Vec<HashSet<Name>>,
    groups: Vec<GroupId>,
    /// Counts writes; tells a stale expression from a fresh one.
    clock: u32,
    written: HashMap<State, u32>,
    /// Clock when each expression was made.
    born: Vec<u32>,
    loops: Vec<Loop>,
}

/// Builds one [`Kernel`].
///
/// ```
/// use mlxc_ir::DType;
/// use mlxc_ir::kernel::{Access, KernelBuilder, Subgroup};
///
/// let k = KernelBuilder::new("scale");
/// let s = k.sym("S", 1..=4096, 1);
/// let x = k.buffer("x", DType::F32, &[s, k.int(64)], Access::Read);
/// let y = k.buffer("y", DType::F32, &[s, k.int(64)], Access::Write);
/// k.phase("main", &[("s", s)], 1, Subgroup::None, |axes| {
///     k.for_("c", k.int(0), k.int(64), 16, false, |c| {
///         let v = k.let_("v", x.at([axes[0], c]).vec(16).load());
///         y.at([axes[0], c]).vec(16).store(v * 2.0);
///     });
/// });
/// assert_eq!(k.finish().phases().len(), 1);
/// ```
///
/// An expression is evaluated where it is used. The builder binds what one statement uses twice, and refuses a value
/// that reads a `var`, register or memory written since the value was made: bind it with [`KernelBuilder::let_`].
pub struct KernelBuilder {
    inner: RefCell<Inner>,
}

/// The grid axes of a phase, in the order they were given.
pub type Axes<'a, 'k> = &'a [Ix<'k>];

impl KernelBuilder {
    /// An empty kernel.
    pub fn new(name: &str) -> Self {
        KernelBuilder {
            inner: RefCell::new(Inner {
                kernel: Kernel::new(super::names::sanitised(name)),
                blocks: Vec::new(),
                names: vec![HashSet::new()],
                groups: Vec::new(),
                clock: 0,
                written: HashMap::new(),
                born: Vec::new(),
                loops: Vec::new(),
            }),
        }
    }

    /// The finished kernel.
    pub fn finish(self) -> Kernel {
        let inner = self.inner.into_inner();
        assert!(inner.blocks.is_empty(), "a kernel is finished outside its phases");
        inner.kernel
    }

    fn inner(&self) -> RefMut<'_, Inner> {
        self.inner.borrow_mut()
    }

    fn ix(&self, id: IndexId) -> Ix<'_> {
        Ix { k: self, id }
    }

    fn value(&self, kind: ExprKind, ty: Type) -> Val<'_> {
        Val { k: self, id: self.inner().expr(kind, ty) }
    }

    /// Says in one line what was fused.
    pub fn comment(&self, text: impl Into<String>) {
        self.inner().kernel.comment = Some(text.into().replace(['\n', '\r'], " "));
    }

    /// Adds a source line or operation the kernel comes from.
    pub fn origin(&self, text: impl Into<String>) {
        self.inner().kernel.origin.push(text.into().replace(['\n', '\r'], " "));
    }

    /// Notes a choice of the template for readers of the text.
    pub fn knob(&self, name: &str, value: i64) {
        self.inner().kernel.knobs.push((name.into(), value));
    }

    /// A size, with its inclusive range and a divisor.
    pub fn sym(&self, name: &str, range: RangeInclusive<i64>, multiple: i64) -> Ix<'_> {
        let (lo, hi) = range.into_inner();
        let mut inner = self.inner();
        let name = inner.unique(name);
        let var = inner.kernel.push_var(name);
        inner.kernel.symbols.push(Symbol { var, lo, hi, multiple });
        let id = inner.kernel.index.var(var);
        drop(inner);
        self.ix(id)
    }

    /// A run-time index, with its inclusive range.
    pub fn arg_index(&self, name: &str, range: RangeInclusive<i64>) -> Ix<'_> {
        let (lo, hi) = range.into_inner();
        let mut inner = self.inner();
        let name = inner.unique(name);
        let var = inner.kernel.push_var(name.clone());
        inner.kernel.args.push(Arg { name, kind: ArgKind::Index { var, lo, hi } });
        let id = inner.kernel.index.var(var);
        drop(inner);
        self.ix(id)
    }

    /// A run-time scalar.
    pub fn arg(&self, name: &str, dtype: DType) -> Val<'_> {
        let mut inner = self.inner();
        let name = inner.unique(name);
        inner.kernel.args.push(Arg { name, kind: ArgKind::Scalar(dtype) });
        let id = ArgId::new(inner.kernel.args.len() - 1);
        drop(inner);
        self.value(ExprKind::Arg(id), dtype.into())
    }

    /// A fact the launch checks: the value is at least 0.
    pub fn require_ge0(&self, fact: Ix<'_>) {
        self.inner().kernel.require.push(fact.id);
    }

    /// A buffer; extents are over symbols and index arguments.
    pub fn buffer(&self, name: &str, dtype: DType, shape: &[Ix<'_>], access: Access) -> Buf<'_> {
        self.add_buffer(name, dtype, shape, access, false)
    }

    /// A buffer whose elements take atomics.
    pub fn atomic_buffer(&self, name: &str, dtype: DType, shape: &[Ix<'_>], access: Access) -> Buf<'_> {
        self.add_buffer(name, dtype, shape, access, true)
    }

    fn add_buffer(&self, name: &str, dtype: DType, shape: &[Ix<'_>], access: Access, atomic: bool) -> Buf<'_> {
        assert!(dtype != DType::Bool, "bool is never stored: `{name}` holds u8");
        let mut inner = self.inner();
        // Visible in the whole kernel, wherever it is first asked for.
        let name = inner.unique_at(0, name);
        let shape = shape.iter().map(|i| i.id).collect();
        inner.kernel.buffers.push(Buffer { name, dtype, atomic, shape, access });
        let id = BufferId::new(inner.kernel.buffers.len() - 1);
        drop(inner);
        Buf { k: self, id }
    }

    /// An array the lanes of the group share; belongs to the phase being built.
    pub fn group(&self, name: &str, dtype: DType, shape: &[i64]) -> Group<'_> {
        self.add_group(name, dtype, shape, false)
    }

    /// A group array whose elements take atomics.
    pub fn atomic_group(&self, name: &str, dtype: DType, shape: &[i64]) -> Group<'_> {
        self.add_group(name, dtype, shape, true)
    }

    fn add_group(&self, name: &str, dtype: DType, shape: &[i64], atomic: bool) -> Group<'_> {
        assert!(dtype != DType::Bool, "bool is never stored: `{name}` holds u8");
        let mut inner = self.inner();
        assert!(!inner.blocks.is_empty(), "group arrays belong to a phase");
        // Visible in the whole phase, so its name is kept from every block of it.
        let name = inner.unique_at(1, name);
        // An extent past u32 is refused with the size of the array.
        let shape = shape.iter().map(|d| u32::try_from(*d).unwrap_or(u32::MAX)).collect();
        inner.kernel.groups.push(GroupArray { name, dtype, atomic, shape });
        let id = GroupId::new(inner.kernel.groups.len() - 1);
        inner.groups.push(id);
        drop(inner);
        Group { k: self, id }
    }

    /// A phase over a grid of groups of `lanes` lanes (1 on CPUs); `body` gets the axes.
    pub fn phase<'k>(
        &'k self,
        name: &str,
        grid: &[(&str, Ix<'k>)],
        lanes: u32,
        subgroup: Subgroup,
        body: impl FnOnce(Axes<'_, 'k>),
    ) {
        let mut inner = self.inner();
        assert!(inner.blocks.is_empty(), "phases do not nest");
        let name = inner.unique(name);
        inner.names.push(HashSet::new());
        let axes: Vec<(VarId, IndexId)> = grid
            .iter()
            .map(|(axis, extent)| {
                let axis = inner.unique(axis);
                (inner.kernel.push_var(axis), extent.id)
            })
            .collect();
        let handles: Vec<Ix<'k>> =
            axes.iter().map(|(var, _)| Ix { k: self, id: inner.kernel.index.var(*var) }).collect();
        inner.blocks.push(Vec::new());
        drop(inner);
        body(&handles);
        let mut inner = self.inner();
        let body = inner.blocks.pop().expect("a phase closes the block it opened");
        inner.names.pop();
        let memory = std::mem::take(&mut inner.groups);
        inner.kernel.steps.push(Step::Phase(Phase { name, grid: axes, lanes, subgroup, memory, body }));
    }

    /// `serial name in lo..hi step c { phases }`: repeats phases with a counter as their argument.
    pub fn serial<'k>(&'k self, name: &str, lo: Ix<'k>, hi: Ix<'k>, step: i64, body: impl FnOnce(Ix<'k>)) {
        let mut inner = self.inner();
        assert!(inner.blocks.is_empty(), "serial steps stand outside phases");
        let name = inner.unique(name);
        let var = inner.kernel.push_var(name);
        let id = inner.kernel.index.var(var);
        let outer = std::mem::take(&mut inner.kernel.steps);
        drop(inner);
        body(self.ix(id));
        let mut inner = self.inner();
        let inside = std::mem::replace(&mut inner.kernel.steps, outer);
        inner.kernel.steps.push(Step::Serial { var, lo: lo.id, hi: hi.id, step, body: inside });
    }

    /// A constant index.
    pub fn int(&self, value: i64) -> Ix<'_> {
        let id = self.inner().kernel.index.constant(value);
        self.ix(id)
    }

    /// `lane`: the number of the lane in its group.
    pub fn lane(&self) -> Ix<'_> {
        self.builtin(super::Builtin::Lane)
    }

    /// `lane`, `sg.id`, `sg.lane` or `sg.width`.
    pub fn builtin(&self, which: super::Builtin) -> Ix<'_> {
        let id = self.inner().kernel.index.builtin(which);
        self.ix(id)
    }

    /// A scalar constant: floats round to nearest even, integers wrap.
    pub fn constant(&self, value: f64, dtype: DType) -> Val<'_> {
        self.bits(super::scalar::from_f64(dtype, value), dtype)
    }

    /// A scalar constant of an integer type; wraps.
    pub fn int_constant(&self, value: i64, dtype: DType) -> Val<'_> {
        self.bits(super::scalar::from_i64(dtype, value), dtype)
    }

    /// A scalar constant given by its bits.
    pub fn bits(&self, bits: u64, dtype: DType) -> Val<'_> {
        self.value(ExprKind::Const(bits), dtype.into())
    }

    /// `for name in lo..hi step c [unroll]`.
    pub fn for_<'k>(&'k self, name: &str, lo: Ix<'k>, hi: Ix<'k>, step: i64, unroll: bool, body: impl FnOnce(Ix<'k>)) {
        assert!(step >= 1, "a loop steps by at least 1");
        let mut inner = self.inner();
        assert!(!inner.blocks.is_empty(), "loops belong to a phase");
        let (lo, hi) = (lo.id, hi.id);
        inner.fresh_indices(&[lo, hi]);
        // Tells values made before the loop from those made in it.
        inner.clock += 1;
        let began = inner.clock;
        // What is made from here on is told from what was made before.
        inner.clock += 1;
        inner.loops.push(Loop { began, early: Vec::new() });
        inner.blocks.push(Vec::new());
        inner.names.push(HashSet::new());
        let name = inner.unique(name);
        let var = inner.kernel.push_var(name);
        let id = inner.kernel.index.var(var);
        drop(inner);
        body(self.ix(id));
        let mut inner = self.inner();
        let body = inner.blocks.pop().expect("a loop closes the block it opened");
        inner.names.pop();
        let done = inner.loops.pop().expect("a loop closes itself");
        for state in done.early {
            let stale = inner.written.get(&state).is_some_and(|w| *w > done.began);
            assert!(!stale, "{}: made before a loop that writes it and used inside: bind it with let_", {
                inner.state_name(state)
            });
        }
        inner.push(Stmt::For { var, lo, hi, step, unroll, body });
    }

    /// `if cond { }`.
    pub fn if_(&self, cond: Val<'_>, then: impl FnOnce()) {
        self.if_else(cond, then, || {});
    }

    /// `if cond { } else { }`.
    pub fn if_else(&self, cond: Val<'_>, then: impl FnOnce(), otherwise: impl FnOnce()) {
        assert!(cond.ty() == Type::scalar(DType::Bool), "if needs a scalar bool, not {}", cond.ty());
        let cond = self.inner().settle(cond.id);
        let then = self.block(then);
        let otherwise = self.block(otherwise);
        self.inner().push(Stmt::If { cond, then, otherwise });
    }

    fn block(&self, body: impl FnOnce()) -> Block {
        let mut inner = self.inner();
        assert!(!inner.blocks.is_empty(), "statements belong to a phase");
        inner.blocks.push(Vec::new());
        inner.names.push(HashSet::new());
        drop(inner);
        body();
        let mut inner = self.inner();
        inner.names.pop();
        inner.blocks.pop().expect("a block closes itself")
    }

    /// `let name = value`: evaluates here, once.
    pub fn let_<'k>(&'k self, name: &str, value: Val<'k>) -> Val<'k> {
        let ty = value.ty();
        let mut inner = self.inner();
        let e = inner.settle(value.id);
        let name = inner.unique(name);
        let local = inner.kernel.push_local(name, ty, LocalKind::Let);
        inner.push(Stmt::Let(local, e));
        drop(inner);
        self.value(ExprKind::Get(local, SmallVec::new()), ty)
    }

    /// As [`KernelBuilder::let_`], but a value that has a name keeps it.
    pub fn bound<'k>(&'k self, name: &str, value: Val<'k>) -> Val<'k> {
        let named = {
            let inner = self.inner();
            matches!(&inner.kernel.expr(value.id).kind, ExprKind::Get(local, at)
                if at.is_empty() && inner.kernel.local(*local).kind == LocalKind::Let)
        };
        if named { value } else { self.let_(name, value) }
    }

    /// `let name = index`, for a name in the text and for an `idx` that should be read once.
    pub fn let_index<'k>(&'k self, name: &str, value: Ix<'k>) -> Ix<'k> {
        // A name for what has one, or needs none, would only be another word for it.
        if matches!(self.inner().kernel.index.get(value.id), super::Index::Const(_) | super::Index::Var(_)) {
            return value;
        }
        let mut inner = self.inner();
        inner.fresh_indices(&[value.id]);
        let name = inner.unique(name);
        let var = inner.kernel.push_var(name);
        inner.push(Stmt::LetIndex(var, value.id));
        let id = inner.kernel.index.var(var);
        drop(inner);
        self.ix(id)
    }

    /// `var name: T = value`.
    pub fn var<'k>(&'k self, name: &str, value: Val<'k>) -> Var<'k> {
        let ty = value.ty();
        let mut inner = self.inner();
        let e = inner.settle(value.id);
        let name = inner.unique(name);
        let id = inner.kernel.push_local(name, ty, LocalKind::Var);
        inner.push(Stmt::Declare(id, Some(e)));
        drop(inner);
        Var { k: self, id }
    }

    /// `reg name: T[dims] = init`, undefined without a value; a scalar value fills vectors and tiles.
    pub fn reg<'k>(&'k self, name: &str, ty: impl Into<Type>, dims: &[u32], init: Option<Val<'k>>) -> Reg<'k> {
        let ty = ty.into();
        let init = init.map(|v| v.fit(ty).id);
        let mut inner = self.inner();
        let e = init.map(|v| inner.settle(v));
        let name = inner.unique(name);
        let id = inner.kernel.push_local(name, ty, LocalKind::Reg(SmallVec::from_slice(dims)));
        inner.push(Stmt::Declare(id, e));
        drop(inner);
        Reg { k: self, id }
    }

    /// Loads a place.
    pub fn load<'k>(&'k self, place: PlaceRef<'k>) -> Val<'k> {
        place.load()
    }

    /// Stores to a place.
    pub fn store<'k>(&'k self, place: PlaceRef<'k>, value: Val<'k>) {
        place.store(value);
    }

    /// `barrier`, `barrier sg`, `barrier buffers`.
    pub fn barrier(&self, scope: BarrierScope) {
        let mut inner = self.inner();
        inner.clock += 1;
        let now = inner.clock;
        for memory in inner.groups.clone() {
            inner.written.insert(State::Memory(Memory::Group(memory)), now);
        }
        inner.push(Stmt::Barrier(scope));
    }

    /// `vec(a, b, …)`.
    pub fn vector<'k>(&'k self, parts: &[Val<'k>]) -> Val<'k> {
        let first = parts.first().expect("a vector has elements").ty();
        assert!(parts.iter().all(|p| p.ty() == first), "elements of a vector have one type");
        let lanes = parts.len() as u64 * u64::from(first.lanes());
        assert!(Type::lanes_allowed(lanes), "vectors have 2, 4, 8, 16, 32 or 64 elements");
        let kind = ExprKind::Vector(parts.iter().map(|p| p.id).collect());
        self.value(kind, Type::vector(first.dtype(), lanes as u8))
    }

    /// `vec<T>(l: e)`: elements computed from their numbers.
    pub fn table<'k>(&'k self, ty: Type, f: impl FnOnce(Ix<'k>) -> Ix<'k>) -> Val<'k> {
        let f = self.lane_fn(f);
        self.value(ExprKind::Table(f), ty)
    }

    fn lane_fn<'k>(&'k self, f: impl FnOnce(Ix<'k>) -> Ix<'k>) -> LaneFn {
        let mut inner = self.inner();
        let name = inner.free("l");
        let var = inner.kernel.push_var(name);
        let id = inner.kernel.index.var(var);
        drop(inner);
        LaneFn { var, body: f(self.ix(id)).id }
    }

    /// `tile.map(t, [i, j, v]: e)`: each element from its row, column and value.
    pub fn tile_map<'k>(&'k self, tile: Val<'k>, f: impl FnOnce(Ix<'k>, Ix<'k>, Val<'k>) -> Val<'k>) -> Val<'k> {
        let ty = tile.ty();
        assert!(ty.is_tile(), "tile.map takes a tile");
        let mut inner = self.inner();
        let (i, j, v) = (inner.free("i"), inner.free("j"), inner.free("v"));
        let (row, column) = (inner.kernel.push_var(i), inner.kernel.push_var(j));
        let element = inner.kernel.push_local(v, Type::scalar(ty.dtype()), LocalKind::TileElement);
        let (i, j) = (inner.kernel.index.var(row), inner.kernel.index.var(column));
        drop(inner);
        let v = self.value(ExprKind::Get(element, SmallVec::new()), Type::scalar(ty.dtype()));
        let body = f(self.ix(i), self.ix(j), v);
        assert!(body.ty() == Type::scalar(ty.dtype()), "tile.map keeps the element type");
        self.value(ExprKind::TileMap { tile: tile.id, row, column, element, body: body.id }, ty)
    }
}

impl Inner {
    fn expr(&mut self, kind: ExprKind, ty: Type) -> ExprId {
        let id = self.kernel.push_expr(kind, ty);
        self.born.push(self.clock);
        id
    }

    fn push(&mut self, stmt: Stmt) {
        self.blocks.last_mut().expect("statements belong to a phase").push(stmt);
    }

    /// A name no visible declaration has.
    fn free(&self, base: &str) -> Name {
        let base = &super::names::sanitised(base);
        let taken = |name: &str| self.names.iter().any(|scope| scope.contains(name)) || super::names::is_reserved(name);
        if !taken(base) {
            return base.as_str().into();
        }
        (1..).map(|n| format!("{base}_{n}")).find(|n| !taken(n)).expect("there are names enough").into()
    }

    fn unique(&mut self, base: &str) -> Name {
        let top = self.names.len() - 1;
        self.unique_at(top, base)
    }

    fn unique_at(&mut self, scope: usize, base: &str) -> Name {
        let name = self.free(base);
        self.names[scope].insert(name.clone());
        name
    }

    fn wrote(&mut self, state: State) {
        self.clock += 1;
        let now = self.clock;
        self.written.insert(state, now);
    }

    fn state_name(&self, state: State) -> String {
        match state {
            State::Local(l) => self.kernel.local(l).name.to_string(),
            State::Memory(m) => self.kernel.memory_name(m).to_string(),
        }
    }

    fn check_fresh(&mut self, e: ExprId) {
        let state = match &self.kernel.expr(e).kind {
            ExprKind::Get(local, _) => match self.kernel.local(*local).kind {
                LocalKind::Var | LocalKind::Reg(_) => State::Local(*local),
                LocalKind::Let | LocalKind::TileElement => return,
            },
            ExprKind::Load(place, _) | ExprKind::LoadTile { place, .. } => State::Memory(place.memory),
            _ => return,
        };
        let born = self.born[e.index()];
        let stale = self.written.get(&state).is_some_and(|w| *w > born);
        assert!(!stale, "{}: read by a value made before its last write: bind it with let_", self.state_name(state));
        for open in &mut self.loops {
            if born < open.began {
                open.early.push(state);
            }
        }
    }

    fn fresh_indices(&mut self, roots: &[IndexId]) {
        for root in roots {
            let mut values = Vec::new();
            self.kernel.index.clamped(*root, &mut |e| values.push(e));
            for v in values {
                self.count(v, &mut BTreeMap::new());
            }
        }
    }

    /// Visits every operand, checks that none is stale, and counts uses.
    fn count(&mut self, e: ExprId, uses: &mut BTreeMap<ExprId, u32>) {
        let n = uses.entry(e).or_insert(0);
        *n += 1;
        if *n > 1 {
            return;
        }
        self.check_fresh(e);
        let kind = self.kernel.expr(e).kind.clone();
        let mut below = Vec::new();
        kind.indices(&mut |i| self.kernel.index.clamped(i, &mut |v| below.push(v)));
        for v in below {
            self.count(v, &mut BTreeMap::new());
        }
        let mut operands = SmallVec::<[ExprId; 4]>::new();
        match kind {
            // The body has its own scope: nothing of it may move out.
            ExprKind::TileMap { tile, body, .. } => {
                operands.push(tile);
                self.count(body, &mut BTreeMap::new());
            }
            _ => kind.operands(&mut |x| operands.push(x)),
        }
        for x in operands {
            self.count(x, uses);
        }
    }

    fn is_cheap(&self, e: ExprId) -> bool {
        match &self.kernel.expr(e).kind {
            ExprKind::Const(_) | ExprKind::Arg(_) | ExprKind::FromIndex(_) | ExprKind::Get(..) => true,
            ExprKind::CompareIndex(..) => true,
            ExprKind::Splat(a) => self.is_cheap(*a),
            _ => false,
        }
    }

    /// Makes an expression ready for a statement: nothing stale, and what it uses twice bound by a `let` before.
    fn settle(&mut self, root: ExprId) -> ExprId {
        let mut uses = BTreeMap::new();
        self.count(root, &mut uses);
        // Operands are made before what uses them, so ascending ids are an order of evaluation.
        let shared: Vec<ExprId> =
            uses.iter().filter(|(e, n)| **n > 1 && !self.is_cheap(**e)).map(|(e, _)| *e).collect();
        let mut bound = HashMap::new();
        for e in shared {
            let value = self.replace_below(e, &mut bound);
            let ty = self.kernel.expr(e).ty;
            let name = self.unique("t");
            let local = self.kernel.push_local(name, ty, LocalKind::Let);
            self.push(Stmt::Let(local, value));
            let get = self.expr(ExprKind::Get(local, SmallVec::new()), ty);
            bound.insert(e, get);
        }
        if bound.is_empty() { root } else { self.replace(root, &mut bound) }
    }

    fn replace(&mut self, e: ExprId, bound: &mut HashMap<ExprId, ExprId>) -> ExprId {
        if let Some(to) = bound.get(&e) {
            return *to;
        }
        let to = self.replace_below(e, bound);
        bound.insert(e, to);
        to
    }

    fn replace_below(&mut self, e: ExprId, bound: &mut HashMap<ExprId, ExprId>) -> ExprId {
        let Expr { kind, ty } = self.kernel.expr(e).clone();
        let new = kind.map_operands(&mut |x| self.replace(x, bound));
        if new == kind { e } else { self.expr(new, ty) }
    }

    fn settle_place(&mut self, place: &Place) {
        let mut roots = SmallVec::<[IndexId; 4]>::new();
        place.indices(&mut |i| roots.push(i));
        self.fresh_indices(&roots);
    }
}
