//! The data types of the Kernel IR: one [`Kernel`] owns every arena, so that handles are plain numbers.

use super::index::IndexArena;
use super::ops::{BinaryOp, Comparison, FoldOp, MathFn, SubgroupOp, UnaryOp};
use mlxc_package::DType;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// The handle of the arena's element at this position.
            pub const fn new(position: usize) -> Self {
                $name(position as u32)
            }

            /// The position in the arena.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

handle!(/// An index expression, in [`Kernel::index`].
    IndexId);
handle!(/// An index variable, in [`Kernel::vars`].
    VarId);
handle!(/// A value expression, in [`Kernel::exprs`].
    ExprId);
handle!(/// A `let`, `var` or `reg`, in [`Kernel::locals`].
    LocalId);
handle!(/// A buffer, in [`Kernel::buffers`].
    BufferId);
handle!(/// A group array, in [`Kernel::groups`].
    GroupId);
handle!(/// An argument, in [`Kernel::args`].
    ArgId);

/// A name as it stands in text: a letter or `_`, then letters, digits and `_`.
pub type Name = Arc<str>;

/// What a matrix tile is in a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileRole {
    /// Left factor.
    A,
    /// Right factor.
    B,
    /// Accumulator.
    C,
}

impl TileRole {
    /// `a`, `b` or `c`.
    pub const fn name(self) -> &'static str {
        match self {
            TileRole::A => "a",
            TileRole::B => "b",
            TileRole::C => "c",
        }
    }
}

/// How memory holds a matrix tile that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileOrder {
    /// Row by row.
    Rows,
    /// Column by column: memory holds the transposed tile.
    Columns,
    /// So many rows interleaved: element (i, j) at `[i / n, n * j + i % n]`, as dot-product units take a right factor.
    Interleaved(u8),
}

impl TileOrder {
    /// Rows and columns of the tile where memory has `rows` and `columns`; `None` if it cannot hold such a tile.
    pub const fn tile(self, rows: u8, columns: u8) -> Option<(u8, u8)> {
        match self {
            TileOrder::Rows => Some((rows, columns)),
            TileOrder::Columns => Some((columns, rows)),
            TileOrder::Interleaved(n) if n > 1 && columns.is_multiple_of(n) => match rows.checked_mul(n) {
                Some(rows) => Some((rows, columns / n)),
                None => None,
            },
            TileOrder::Interleaved(_) => None,
        }
    }

    /// Where memory holds element (i, j) of the tile.
    pub const fn place(self, i: usize, j: usize) -> (usize, usize) {
        match self {
            TileOrder::Rows => (i, j),
            TileOrder::Columns => (j, i),
            TileOrder::Interleaved(n) => (i / n as usize, j * n as usize + i % n as usize),
        }
    }
}

/// The end of a load's name in text: nothing, `_t`, or `_` and the number of interleaved rows.
impl fmt::Display for TileOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TileOrder::Rows => Ok(()),
            TileOrder::Columns => f.write_str("_t"),
            TileOrder::Interleaved(n) => write!(f, "_{n}"),
        }
    }
}

/// The type of a value: a scalar, a vector, or a matrix tile that a subgroup holds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A scalar (1 lane) or a vector of 2, 4, 8, 16, 32 or 64 elements.
    Value {
        /// Type of an element; `bool` is a predicate and never stored.
        dtype: DType,
        /// Number of elements.
        lanes: u8,
    },
    /// An opaque matrix.
    Tile {
        /// Type of an element.
        dtype: DType,
        /// Rows.
        rows: u8,
        /// Columns.
        columns: u8,
        /// Factor or accumulator.
        role: TileRole,
    },
}

impl Type {
    /// A scalar type.
    pub const fn scalar(dtype: DType) -> Self {
        Type::Value { dtype, lanes: 1 }
    }

    /// A vector type; a scalar when `lanes` is 1.
    pub const fn vector(dtype: DType, lanes: u8) -> Self {
        Type::Value { dtype, lanes }
    }

    /// Type of one element.
    pub const fn dtype(self) -> DType {
        match self {
            Type::Value { dtype, .. } | Type::Tile { dtype, .. } => dtype,
        }
    }

    /// Elements of a scalar or vector; 1 for a tile.
    pub const fn lanes(self) -> u8 {
        match self {
            Type::Value { lanes, .. } => lanes,
            Type::Tile { .. } => 1,
        }
    }

    /// True for a matrix tile.
    pub const fn is_tile(self) -> bool {
        matches!(self, Type::Tile { .. })
    }

    /// The same shape with another element type.
    pub const fn with_dtype(self, to: DType) -> Self {
        match self {
            Type::Value { lanes, .. } => Type::Value { dtype: to, lanes },
            Type::Tile { rows, columns, role, .. } => Type::Tile { dtype: to, rows, columns, role },
        }
    }

    /// Bits of a scalar or vector, counting a bool as 1.
    pub const fn bits(self) -> u64 {
        let one = match self.dtype() {
            DType::Bool => 1,
            d => d.bytes() * 8,
        };
        one * self.lanes() as u64
    }

    /// True for a number of lanes a vector may have, 1 included.
    pub const fn lanes_allowed(lanes: u64) -> bool {
        matches!(lanes, 1 | 2 | 4 | 8 | 16 | 32 | 64)
    }
}

impl From<DType> for Type {
    fn from(dtype: DType) -> Self {
        Type::scalar(dtype)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Type::Value { dtype, lanes: 1 } => write!(f, "{dtype}"),
            Type::Value { dtype, lanes } => write!(f, "{dtype}x{lanes}"),
            Type::Tile { dtype, rows, columns, role: TileRole::C } => write!(f, "tile<{dtype}, {rows}x{columns}>"),
            Type::Tile { dtype, rows, columns, role } => write!(f, "tile<{dtype}, {rows}x{columns}, {}>", role.name()),
        }
    }
}

/// An index variable. What it is follows from where it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexVar {
    /// Name in text.
    pub name: Name,
}

/// A size known when a step is launched: `sym S in 1..=4096 mult 8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The variable that holds it.
    pub var: VarId,
    /// Smallest value.
    pub lo: i64,
    /// Largest value.
    pub hi: i64,
    /// A divisor of every value, at least 1.
    pub multiple: i64,
}

/// A run-time scalar of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Name in text.
    pub name: Name,
    /// Its type.
    pub kind: ArgKind,
}

/// The type of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgKind {
    /// `arg pos: index in 0..=4095`.
    Index {
        /// The variable that holds it.
        var: VarId,
        /// Smallest value.
        lo: i64,
        /// Largest value.
        hi: i64,
    },
    /// `arg t: f32`.
    Scalar(DType),
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Loaded only.
    Read,
    /// Every element stored, none loaded.
    Write,
    /// Some elements stored, any may be loaded: state, or in place.
    Update,
    /// Arena memory for this kernel alone, undefined at its start.
    Scratch,
}

impl Access {
    /// The word in text.
    pub const fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Update => "update",
            Access::Scratch => "scratch",
        }
    }
}

/// A row-major array in device memory, 256-byte aligned, that overlaps no other buffer of the launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Name in text.
    pub name: Name,
    /// Element type, not `bool`.
    pub dtype: DType,
    /// True if its elements take atomics (and plain loads in another barrier interval).
    pub atomic: bool,
    /// Extents, over symbols and index arguments.
    pub shape: SmallVec<[IndexId; 4]>,
    /// What the kernel does with it.
    pub access: Access,
}

/// An array that the lanes of a group share; one copy a group, undefined at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupArray {
    /// Name in text.
    pub name: Name,
    /// Element type, not `bool`.
    pub dtype: DType,
    /// True if its elements take atomics.
    pub atomic: bool,
    /// Constant extents.
    pub shape: SmallVec<[u32; 4]>,
}

impl GroupArray {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.shape.iter().fold(self.dtype.bytes(), |n, d| n.saturating_mul(u64::from(*d)))
    }
}

/// How a local value is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalKind {
    /// Bound once by `let`.
    Let,
    /// Assigned again: `var`.
    Var,
    /// The element parameter of a `tile.map`.
    TileElement,
    /// An array of registers with these extents; its indices are constant after unrolling.
    Reg(SmallVec<[u32; 2]>),
}

/// A value of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Name in text.
    pub name: Name,
    /// Type of the value or of one register.
    pub ty: Type,
    /// How it is kept.
    pub kind: LocalKind,
}

/// What a place is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Memory {
    /// A buffer of the kernel.
    Buffer(BufferId),
    /// A group array of the phase.
    Group(GroupId),
}

/// How much an access touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One element.
    One,
    /// This many elements along the last axis.
    Vector(u8),
    /// The first `count` of `lanes` elements along the last axis, 0 ≤ `count` ≤ `lanes`.
    First {
        /// Width of the value.
        lanes: u8,
        /// Elements touched.
        count: IndexId,
    },
    /// Rows and columns along the last two axes.
    Tile(u8, u8),
}

/// Elements of a buffer or group array: one index for each axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The array.
    pub memory: Memory,
    /// One index for each axis.
    pub at: SmallVec<[IndexId; 4]>,
    /// How much of it.
    pub shape: Shape,
}

/// An element of a vector by its number: `l: e`, constant after unrolling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneFn {
    /// The parameter, the number of the element.
    pub var: VarId,
    /// What it maps to.
    pub body: IndexId,
}

/// What an expression computes from its operands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExprKind {
    /// A scalar constant: the bits of the type, zero-extended.
    Const(u64),
    /// A scalar argument.
    Arg(ArgId),
    /// `u32(i)`: an index as an integer or float scalar.
    FromIndex(IndexId),
    /// A comparison of two indices.
    CompareIndex(Comparison, IndexId, IndexId),
    /// A local; a register array takes one index for each axis. Read where the expression is evaluated.
    Get(LocalId, SmallVec<[IndexId; 2]>),
    /// A load; of a `First` place, elements from `count` on are the second operand (0 when absent).
    Load(Place, Option<ExprId>),
    /// `tile_a(x[…])`, `tile_b_t(x[…])`, `tile_b_2(x[…])`: a tile load; the role is in the type.
    LoadTile {
        /// Where, with the shape that memory has.
        place: Place,
        /// How memory holds the tile.
        order: TileOrder,
    },
    /// One operand.
    Unary(UnaryOp, ExprId),
    /// Two operands of the result's type.
    Binary(BinaryOp, ExprId, ExprId),
    /// A predicate for each element.
    Compare(Comparison, ExprId, ExprId),
    /// a·b + c, rounded once.
    Fma(ExprId, ExprId, ExprId),
    /// a·b + c, rounded once or twice, as the target likes.
    Mad(ExprId, ExprId, ExprId),
    /// `select(c, a, b)`; both are evaluated. The predicate is a scalar or has the result's lanes.
    Select(ExprId, ExprId, ExprId),
    /// Value cast to the type's dtype.
    Cast(ExprId),
    /// `as<T>(x)`: the same bits as another type.
    Bits(ExprId),
    /// Every element is the scalar; of a tile as well.
    Splat(ExprId),
    /// `vec(a, b, …)`.
    Vector(SmallVec<[ExprId; 4]>),
    /// `vec<u32x4>(l: e)`: elements from their numbers.
    Table(LaneFn),
    /// `extract(v, i)`, i constant after unrolling.
    Extract(ExprId, IndexId),
    /// `shuffle<N>(v, l: e)`: element l is v's element e.
    Shuffle(ExprId, LaneFn),
    /// `lut(table, i)`: element i mod L of a table of L.
    Lut(ExprId, ExprId),
    /// `dot2(c, a, b)` or `dot4(c, a, b)`: each element of c plus `terms` products of neighbours.
    Dot {
        /// 2 or 4.
        terms: u8,
        /// c
        acc: ExprId,
        /// a
        a: ExprId,
        /// b
        b: ExprId,
    },
    /// `hsum(v)`, `hmin(v)`, `hmax(v)`: halves combined again and again.
    Fold(FoldOp, ExprId),
    /// An elementary function of one or two operands.
    Math(MathFn, SmallVec<[ExprId; 2]>),
    /// `lanes.add<C>(x)`: all-reduce over aligned runs of C lanes of the group.
    Lanes(FoldOp, u32, ExprId),
    /// An operation over the subgroup.
    Subgroup(SubgroupOp, ExprId),
    /// `group.bcast(x)`: lane 0's value.
    GroupBroadcast(ExprId),
    /// `mma(a, b, c)`: c + a·b.
    Mma(ExprId, ExprId, ExprId),
    /// `tile.map(t, [i, j, v]: e)`.
    TileMap {
        /// The tile.
        tile: ExprId,
        /// Row.
        row: VarId,
        /// Column.
        column: VarId,
        /// Element, of kind [`LocalKind::TileElement`].
        element: LocalId,
        /// The new element.
        body: ExprId,
    },
}

/// A value expression. Expressions are trees: sharing is a `let`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr {
    /// The operation.
    pub kind: ExprKind,
    /// Type of the result.
    pub ty: Type,
}

/// What a barrier orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BarrierScope {
    /// Group memory, for the group.
    Group,
    /// Group memory, for the subgroup.
    Subgroup,
    /// Group memory and buffers, for the group.
    Buffers,
}

/// Statements in order.
pub type Block = Vec<Stmt>;

/// One statement. Loads of a statement happen before its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stmt {
    /// `let n = e`.
    Let(LocalId, ExprId),
    /// `let n = i` of an index.
    LetIndex(VarId, IndexId),
    /// `var n: T = e` or `reg n: T[4, 2] [= e]`; a register array without a value is undefined.
    Declare(LocalId, Option<ExprId>),
    /// `n = e`, `n[i, j] = e` of a `var` or `reg`.
    Set(LocalId, SmallVec<[IndexId; 2]>, ExprId),
    /// `[nt] x[…] = e`.
    Store {
        /// Where.
        place: Place,
        /// What.
        value: ExprId,
        /// Hint that the data will not be read again soon.
        nontemporal: bool,
    },
    /// `atomic.add x[…], e`; relaxed, no result.
    Atomic(FoldOp, Place, ExprId),
    /// `prefetch x[…]`; the address may be out of range.
    Prefetch(Place),
    /// `for i in lo..hi step c [unroll] { }`.
    For {
        /// Loop variable.
        var: VarId,
        /// First value.
        lo: IndexId,
        /// Bound, exclusive.
        hi: IndexId,
        /// Increment, at least 1.
        step: i64,
        /// Written out; the bounds are constants.
        unroll: bool,
        /// Body.
        body: Block,
    },
    /// `if c { } else { }`.
    If {
        /// A scalar predicate.
        cond: ExprId,
        /// Where it holds.
        then: Block,
        /// Where it does not.
        otherwise: Block,
    },
    /// `barrier`, `barrier sg`, `barrier buffers`.
    Barrier(BarrierScope),
}

/// Which subgroup width a phase relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subgroup {
    /// No subgroup operations.
    None,
    /// A width known when running, 4 to 128.
    Any,
    /// This width.
    Fixed(u8),
}

/// One launch: a grid of groups of lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Name in text.
    pub name: Name,
    /// Axes and their extents, row-major, the last fastest.
    pub grid: Vec<(VarId, IndexId)>,
    /// Lanes in a group; 1 for CPU tasks.
    pub lanes: u32,
    /// Subgroup width.
    pub subgroup: Subgroup,
    /// Arrays the group shares.
    pub memory: Vec<GroupId>,
    /// What a lane does.
    pub body: Block,
}

/// What a kernel runs in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// One launch.
    Phase(Phase),
    /// `serial k in lo..hi step c { phases }`.
    Serial {
        /// Counter, an argument to the phases inside.
        var: VarId,
        /// First value.
        lo: IndexId,
        /// Bound, exclusive.
        hi: IndexId,
        /// Increment, at least 1.
        step: i64,
        /// Steps to repeat.
        body: Vec<Step>,
    },
}

/// A kernel: parameters, buffers, phases, and the arenas of all its expressions.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Name in text.
    pub name: Name,
    /// What was fused, in one line; printed as a comment.
    pub comment: Option<String>,
    /// Source lines or operations the kernel came from.
    pub origin: Vec<String>,
    /// Sizes.
    pub symbols: Vec<Symbol>,
    /// Run-time scalars.
    pub args: Vec<Arg>,
    /// Index expressions over symbols and arguments that the launch guarantees to be at least 0.
    pub require: Vec<IndexId>,
    /// Buffers.
    pub buffers: Vec<Buffer>,
    /// The template's choices, for readers of the text; they mean nothing.
    pub knobs: Vec<(Name, i64)>,
    /// Launches in order.
    pub steps: Vec<Step>,
    /// Index expressions.
    pub index: IndexArena,
    /// Index variables.
    pub vars: Vec<IndexVar>,
    /// Value expressions.
    pub exprs: Vec<Expr>,
    /// Locals of all phases.
    pub locals: Vec<Local>,
    /// Group arrays of all phases.
    pub groups: Vec<GroupArray>,
}

impl Kernel {
    /// A kernel without anything in it.
    pub fn new(name: impl Into<Name>) -> Self {
        Kernel {
            name: name.into(),
            comment: None,
            origin: Vec::new(),
            symbols: Vec::new(),
            args: Vec::new(),
            require: Vec::new(),
            buffers: Vec::new(),
            knobs: Vec::new(),
            steps: Vec::new(),
            index: IndexArena::default(),
            vars: Vec::new(),
            exprs: Vec::new(),
            locals: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// The expression behind an id.
    pub fn expr(&self, id: ExprId) -> &Expr {
        &self.exprs[id.index()]
    }

    /// The local behind an id.
    pub fn local(&self, id: LocalId) -> &Local {
        &self.locals[id.index()]
    }

    /// The buffer behind an id.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.index()]
    }

    /// The group array behind an id.
    pub fn group(&self, id: GroupId) -> &GroupArray {
        &self.groups[id.index()]
    }

    /// Name of an index variable.
    pub fn var_name(&self, id: VarId) -> &str {
        &self.vars[id.index()].name
    }

    /// Name of a buffer or group array.
    pub fn memory_name(&self, memory: Memory) -> &str {
        match memory {
            Memory::Buffer(b) => &self.buffer(b).name,
            Memory::Group(g) => &self.group(g).name,
        }
    }

    /// Element type of a buffer or group array.
    pub fn memory_dtype(&self, memory: Memory) -> DType {
        match memory {
            Memory::Buffer(b) => self.buffer(b).dtype,
            Memory::Group(g) => self.group(g).dtype,
        }
    }

    /// Number of axes of a buffer or group array.
    pub fn memory_rank(&self, memory: Memory) -> usize {
        match memory {
            Memory::Buffer(b) => self.buffer(b).shape.len(),
            Memory::Group(g) => self.group(g).shape.len(),
        }
    }

    /// Type of the value a non-tile access loads or stores.
    pub fn place_type(&self, place: &Place) -> Type {
        let lanes = match place.shape {
            Shape::One | Shape::Tile(..) => 1,
            Shape::Vector(n) | Shape::First { lanes: n, .. } => n,
        };
        Type::vector(self.memory_dtype(place.memory), lanes)
    }

    /// Adds an expression.
    pub fn push_expr(&mut self, kind: ExprKind, ty: Type) -> ExprId {
        self.exprs.push(Expr { kind, ty });
        ExprId::new(self.exprs.len() - 1)
    }

    /// Adds an index variable.
    pub fn push_var(&mut self, name: impl Into<Name>) -> VarId {
        self.vars.push(IndexVar { name: name.into() });
        VarId::new(self.vars.len() - 1)
    }

    /// Adds a local.
    pub fn push_local(&mut self, name: impl Into<Name>, ty: Type, kind: LocalKind) -> LocalId {
        self.locals.push(Local { name: name.into(), ty, kind });
        LocalId::new(self.locals.len() - 1)
    }

    /// Every phase in order, those of serial steps once.
    pub fn phases(&self) -> Vec<&Phase> {
        fn walk<'a>(steps: &'a [Step], out: &mut Vec<&'a Phase>) {
            for step in steps {
                match step {
                    Step::Phase(p) => out.push(p),
                    Step::Serial { body, .. } => walk(body, out),
                }
            }
        }
        let mut out = Vec::new();
        walk(&self.steps, &mut out);
        out
    }
}
