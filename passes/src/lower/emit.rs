//! Demand-driven emission: the value of any node at given coordinates, as Kernel IR.
//!
//! A kernel computes the nodes of its region. A value is emitted at coordinates of its own shape: views only change
//! coordinates, nodes of the region are computed from their operands, and everything else is loaded from a buffer.
//! Coordinates that mention the lane atom make vectors; others make scalars, which the arithmetic splats. Where
//! lanes do not fall on neighbouring elements, each lane is emitted on its own.

use crate::choices::{Choices, Knob};
use crate::lower::coord::{Atom, AtomId, Coord, Space};
use crate::lower::elementwise::{self, compute};
use crate::lower::kept::KeptRow;
use crate::lower::pull::Sizes;
use mlxc_ir::graph::{Function, Literal, Op, Role, TensorType, ValueId};
use mlxc_ir::kernel::{Access, Buf, Ix, KernelBuilder, Type, Val};
use mlxc_ir::profile::Rates;
use mlxc_ir::{DType, Layout, Range, Size, TargetProfile};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Why nodes cannot be one kernel. The code is stable; the text names values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Short name of the reason, for tests and reports.
    pub code: &'static str,
    /// A sentence.
    pub text: String,
}

impl Refusal {
    /// A refusal with its code and sentence.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Refusal { code, text: text.into() }
    }
}

/// A result of lowering.
pub type Lowered<T> = Result<T, Refusal>;

/// What lowering needs to know besides the function.
pub struct Target<'a> {
    /// The machine.
    pub profile: &'a TargetProfile,
    /// Storage order of parameters that are not row-major, by parameter number.
    pub layouts: &'a BTreeMap<u32, Layout>,
    /// Round every op's result to its dtype.
    pub exact: bool,
    /// Sizes that were measured to be better than the formulas'.
    pub choices: &'a Choices,
}

impl Target<'_> {
    /// A size of the kernel around an anchor: what was measured, else the formula's.
    pub fn choose(&self, knob: &Knob, f: &Function, anchor: u32, formula: i64) -> i64 {
        self.choices.get(knob, f, anchor).unwrap_or(formula)
    }
}

/// What a kernel buffer is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The value whose memory it is; for a state, the parameter; for scratch memory, what it is needed for.
    pub value: ValueId,
    /// How the kernel uses it.
    pub access: Access,
    /// The type of scratch memory, which has no other user.
    pub scratch: Option<TensorType>,
}

/// Work a kernel does at the largest symbol values, for the cost model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Operations, those of matrix products aside.
    pub flops: f64,
    /// Operations of matrix products, those of pairs aside.
    pub dot_flops: f64,
    /// Operations of matrix products of bf16 in pairs, which some machines have an instruction for.
    pub pair_flops: f64,
    /// Operations of products of 8-bit integers, four at a time.
    pub int8_ops: f64,
    /// Operations of matrix products in native tiles.
    pub tile_flops: f64,
    /// Bytes moved between memory and the kernel.
    pub bytes: f64,
    /// Index quotients that only the verifier can prove to be in range.
    pub opaque: u32,
}

impl Work {
    /// Seconds of the matrix products at a target's rates.
    pub fn products(&self, r: &Rates) -> f64 {
        r.products(self.dot_flops, self.pair_flops, self.int8_ops, self.tile_flops)
    }
}

/// What the anchor of a kernel gives the nodes after it: its own result, from registers or group memory.
pub trait Anchor<'k> {
    /// The anchor's value at coordinates, in compute type.
    fn read(&self, e: &mut Emitter<'k, '_>, coords: &[Coord]) -> Lowered<Val<'k>>;
}

/// A set of nodes of a function.
pub type Region = BTreeSet<u32>;

/// Emits values into a kernel being built.
pub struct Emitter<'k, 'f> {
    /// The kernel.
    pub k: &'k KernelBuilder,
    /// The function.
    pub f: &'f Function,
    /// Profile and layouts.
    pub target: &'f Target<'f>,
    /// Nodes computed here.
    pub region: &'f Region,
    /// Coordinates.
    pub space: Space,
    /// Vector width of this emission.
    pub width: u8,
    /// Elements of a tail vector; a full vector without.
    pub tail: Option<Ix<'k>>,
    /// Work counted so far.
    pub work: Work,
    /// Product of the enclosing loops' trip counts.
    pub trips: f64,
    pub(super) anchor: Option<(ValueId, std::rc::Rc<dyn Anchor<'k> + 'k>)>,
    pub(super) bindings: Vec<Binding>,
    pub(super) buffers: HashMap<(ValueId, Vec<Size>), Buf<'k>>,
    /// Bytes loaded and stored, by home.
    pub(super) loaded: HashMap<ValueId, f64>,
    pub(super) loops: Vec<Ix<'k>>,
    pub(super) symbols: Vec<Ix<'k>>,
    pub(super) ranges: Vec<Range>,
    multiples: Vec<i64>,
    uses: Vec<u32>,
    pub(super) scopes: Vec<HashMap<(ValueId, Vec<Coord>), Val<'k>>>,
    pub(super) lane: AtomId,
    reductions: Vec<(ValueId, Vec<Coord>)>,
    /// Conditions around what is emitted: coordinates inside hold only where they do.
    guards: u32,
    /// Atoms of split vector loops and their steps: what further splits can be made of.
    pub(super) columns: Vec<(AtomId, i64)>,
    /// Indices that data decides must be the same for all lanes of a group.
    pub(super) uniform: bool,
    /// Lanes that share what is emitted next, on GPUs.
    pub(super) team: Option<Team<'k>>,
    pub(super) kept_rows: Vec<KeptRow<'k>>,
}

/// An aligned run of lanes of a group that compute one value together.
#[derive(Clone, Copy)]
pub(super) struct Team<'k> {
    /// How many, a power of two.
    pub lanes: u32,
    /// Number of this lane among them.
    pub at: Ix<'k>,
}

impl<'k, 'f> Emitter<'k, 'f> {
    /// An emitter for one kernel; declares the function's symbols.
    pub fn new(k: &'k KernelBuilder, f: &'f Function, target: &'f Target<'f>, region: &'f Region) -> Self {
        let width = (target.profile.vector_bits / 32).clamp(4, 16) as u8;
        Self::with_width(k, f, target, region, width)
    }

    /// As [`Emitter::new`], with vectors of `width` elements; 1 for scalars.
    pub fn with_width(
        k: &'k KernelBuilder,
        f: &'f Function,
        target: &'f Target<'f>,
        region: &'f Region,
        width: u8,
    ) -> Self {
        let mut space = Space::default();
        let lane = space.intern(Atom::Lane, Range::new(0, i64::from(width) - 1), 1);
        let symbols = f
            .symbols
            .iter()
            .map(|s| match s.kind {
                mlxc_ir::graph::SymbolKind::Size => k.sym(&s.name, s.range.lo..=s.range.hi, s.multiple),
                mlxc_ir::graph::SymbolKind::Scalar => k.arg_index(&s.name, s.range.lo..=s.range.hi),
            })
            .collect();
        let mut uses = vec![0; f.nodes.len()];
        for n in region {
            f.nodes[*n as usize].inputs.iter().for_each(|v| uses[v.node as usize] += 1);
        }
        let mut e = Emitter {
            k,
            f,
            target,
            region,
            space,
            width,
            tail: None,
            work: Work::default(),
            trips: 1.0,
            anchor: None,
            bindings: Vec::new(),
            buffers: HashMap::new(),
            loaded: HashMap::new(),
            loops: Vec::new(),
            symbols,
            ranges: f.ranges(),
            multiples: f.symbols.iter().map(|s| s.multiple).collect(),
            uses,
            scopes: vec![HashMap::new()],
            lane,
            reductions: Vec::new(),
            guards: 0,
            columns: Vec::new(),
            uniform: false,
            team: None,
            kept_rows: Vec::new(),
        };
        // Atoms of symbols come first, so that builds of one kernel agree on them.
        for i in 0..f.symbols.len() {
            e.size_coord(&Size::symbol(mlxc_ir::SymId(i as u32)));
        }
        for fact in &f.requires {
            if let Some(c) = e.size_coord(fact) {
                let ix = e.ix(&c);
                k.require_ge0(ix);
            }
        }
        e
    }

    /// Remembers where a reduction was computed, unless that is a place only a condition makes valid.
    pub(crate) fn note_reduction(&mut self, v: ValueId, coords: &[Coord]) {
        if self.guards == 0 {
            self.reductions.push((v, coords.to_vec()));
        }
    }

    /// Emits a value inside a condition.
    pub(super) fn guarded(&mut self, v: ValueId, coords: &[Coord]) -> Lowered<Val<'k>> {
        self.guards += 1;
        let value = self.scoped(1.0, |e| e.emit(v, coords));
        self.guards -= 1;
        value
    }

    /// Reductions computed so far, inner ones first.
    pub(crate) fn reductions(&self) -> Vec<(ValueId, Vec<Coord>)> {
        // An outer reduction is noted when it begins, before those it needs: the reverse is a valid order.
        let mut out: Vec<(ValueId, Vec<Coord>)> = Vec::new();
        for r in self.reductions.iter().rev() {
            if !out.contains(r) {
                out.push(r.clone());
            }
        }
        out.sort_by_key(|(v, _)| *v);
        out
    }

    /// Atoms that every build of this kernel numbers alike: symbols and the first `axes` loops.
    pub(crate) fn stable_atoms(&mut self, axes: usize) -> Vec<AtomId> {
        let mut out = Vec::new();
        for i in 0..self.f.symbols.len() {
            let c = self.size_coord(&Size::symbol(mlxc_ir::SymId(i as u32)));
            out.extend(c.into_iter().flat_map(|c| c.terms).map(|(a, _)| a));
        }
        for n in 0..axes.min(self.loops.len()) {
            out.push(self.space.intern(Atom::Loop(n as u32), Range::new(0, 0), 1));
        }
        out
    }

    /// Sets the value that the kernel's anchor computes.
    pub fn set_anchor(&mut self, value: ValueId, anchor: std::rc::Rc<dyn Anchor<'k> + 'k>) {
        self.anchor = Some((value, anchor));
    }

    /// The buffers' bindings, in kernel order, and the work.
    pub fn finish(mut self) -> (Vec<Binding>, Work) {
        self.work.opaque = self.space.opaque_quotients();
        for b in &self.bindings {
            let ty = b.scratch.as_ref().unwrap_or(self.f.ty(b.value));
            let whole = ty.max_bytes(&self.f.symbols) as f64;
            // A cache holds what is read again; a gather reads only what it picks.
            self.work.bytes += self.loaded.get(&b.value).map_or(whole, |n| n.min(whole));
        }
        (self.bindings, self.work)
    }

    // --- indices ---------------------------------------------------------------------------------------------

    /// The lane as a coordinate.
    pub fn lane(&self) -> Coord {
        if self.width == 1 { Coord::constant(0) } else { Coord::atom(self.lane) }
    }

    /// Makes a coordinate of a loop variable, grid axis or data-dependent index.
    pub fn index(&mut self, ix: Ix<'k>, range: Range, multiple: i64) -> Coord {
        self.loops.push(ix);
        let atom = Atom::Loop(self.loops.len() as u32 - 1);
        let id = self.space.intern(atom, range, multiple);
        // A loop of one trip is no variable: views drop extents of 1, and both sides must agree.
        if range.lo == range.hi { Coord::constant(range.lo) } else { Coord::atom(id) }
    }

    /// A size as a coordinate.
    pub fn size_coord(&mut self, size: &Size) -> Option<Coord> {
        let sizes = Sizes { ranges: &self.ranges, multiples: &self.multiples };
        sizes.coord(&mut self.space, size)
    }

    /// A size as an index.
    pub fn size(&mut self, size: &Size) -> Lowered<Ix<'k>> {
        match self.size_coord(size) {
            Some(c) => Ok(self.ix(&c)),
            None => Err(Refusal::new("symbolic-product", format!("the extent {size} is a product of symbols"))),
        }
    }

    /// Largest value of a size.
    pub fn size_max(&self, size: &Size) -> f64 {
        size.bounds(&self.ranges).hi.max(0) as f64
    }

    /// A coordinate without lanes as an index of the kernel.
    pub fn ix(&mut self, c: &Coord) -> Ix<'k> {
        let mut sum: Option<Ix<'k>> = None;
        for (a, k) in &c.terms {
            let x = self.atom_ix(*a);
            let term = if *k == 1 { x } else { x * *k };
            sum = Some(sum.map_or(term, |s| s + term));
        }
        match sum {
            None => self.k.int(c.constant),
            Some(s) if c.constant == 0 => s,
            Some(s) => s + c.constant,
        }
    }

    fn atom_ix(&mut self, a: AtomId) -> Ix<'k> {
        match self.space.get(a).clone() {
            Atom::Symbol(id) => self.symbols[id.0 as usize],
            Atom::Loop(n) => self.loops[n as usize],
            Atom::Lane => unreachable!("a lane never stands in a scalar index"),
            Atom::Div(e, m) => self.ix(&e).div(m),
            Atom::Mod(e, m) => self.ix(&e).rem(m),
            Atom::Min(e, m) => self.ix(&e).min(self.k.int(m)),
            Atom::Max(e, m) => self.ix(&e).max(self.k.int(m)),
        }
    }

    /// True if the lane atom occurs anywhere in the coordinates.
    pub fn is_vector(&self, coords: &[Coord]) -> bool {
        coords.iter().any(|c| self.space.mentions(c, self.lane))
    }

    /// True if lanes are neighbours along the last axis and nowhere else.
    pub(super) fn is_contiguous(&self, coords: &[Coord]) -> bool {
        let Some((last, rest)) = coords.split_last() else { return false };
        let without =
            Coord { terms: last.terms.iter().filter(|(a, _)| *a != self.lane).copied().collect(), constant: 0 };
        last.coefficient(self.lane) == 1
            && !self.space.mentions(&without, self.lane)
            && !rest.iter().any(|c| self.space.mentions(c, self.lane))
    }

    /// The coordinates at lane 0.
    pub fn base(&mut self, coords: &[Coord]) -> Vec<Coord> {
        let zero = Coord::constant(0);
        coords.iter().map(|c| self.space.substitute(c, self.lane, &zero)).collect()
    }

    /// Emits each lane on its own and packs them.
    pub fn each_lane(
        &mut self,
        coords: &[Coord],
        mut f: impl FnMut(&mut Self, &[Coord]) -> Lowered<Val<'k>>,
    ) -> Lowered<Val<'k>> {
        let tail = self.tail.take();
        // Gathering lanes costs about an operation each.
        self.work.flops += f64::from(self.width) * self.trips;
        let mut parts = Vec::with_capacity(self.width as usize);
        for l in 0..i64::from(self.width) {
            let at = match tail.map(|n| (n, n.as_const())) {
                Some((_, Some(n))) if l >= n => {
                    // Lanes past the tail hold anything: the last one's value will do.
                    let last = *parts.last().expect("a tail has an element");
                    parts.push(last);
                    continue;
                }
                // Lanes past the tail repeat its last element: an address that exists.
                Some((n, None)) if l > 0 => {
                    let ix = self.k.int(l).min(n - 1);
                    self.index(ix, Range::new(0, l), 1)
                }
                _ => Coord::constant(l),
            };
            let lane = self.lane;
            let scalar: Vec<Coord> = coords.iter().map(|c| self.space.substitute(c, lane, &at)).collect();
            let v = f(self, &scalar)?;
            parts.push(self.k.let_("lane", v));
        }
        self.tail = tail;
        Ok(self.k.vector(&parts))
    }

    // --- scopes ----------------------------------------------------------------------------------------------

    /// Opens a block: values emitted inside are forgotten at its end, and work inside counts `trips` times.
    pub fn scoped<T>(&mut self, trips: f64, f: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.push(HashMap::new());
        let outer = self.trips;
        self.trips *= trips;
        let out = f(self);
        self.trips = outer;
        self.scopes.pop();
        out
    }

    /// A loop over a coordinate; `body` gets it. Errors inside end the emission.
    pub fn each(
        &mut self,
        name: &str,
        hi: Ix<'k>,
        range: Range,
        step: i64,
        unroll: bool,
        body: impl FnOnce(&mut Self, Coord) -> Lowered<()>,
    ) -> Lowered<()> {
        let lo = self.k.int(0);
        self.counted(name, [lo, hi], range, step, unroll, body)
    }

    /// A loop over a coordinate that starts at `lo`; `range` bounds it wherever it starts.
    pub fn each_from(
        &mut self,
        name: &str,
        lo: Ix<'k>,
        hi: Ix<'k>,
        range: Range,
        body: impl FnOnce(&mut Self, Coord) -> Lowered<()>,
    ) -> Lowered<()> {
        self.counted(name, [lo, hi], range, 1, false, body)
    }

    fn counted(
        &mut self,
        name: &str,
        [lo, hi]: [Ix<'k>; 2],
        range: Range,
        step: i64,
        unroll: bool,
        body: impl FnOnce(&mut Self, Coord) -> Lowered<()>,
    ) -> Lowered<()> {
        let mut result = Ok(());
        let trips = ((range.hi / step) + 1).max(1) as f64;
        self.k.for_(name, lo, hi, step, unroll, |i| {
            let c = self.index(i, range, step);
            result = self.scoped(trips, |e| body(e, c));
        });
        result
    }

    // --- values ----------------------------------------------------------------------------------------------

    /// The value at coordinates, in compute type; a scalar where no lane occurs in them.
    pub fn emit(&mut self, v: ValueId, coords: &[Coord]) -> Lowered<Val<'k>> {
        let key = (v, coords.to_vec());
        if let Some(found) = self.scopes.iter().rev().find_map(|s| s.get(&key)) {
            return Ok(*found);
        }
        if let Some(value) = self.kept(v, coords) {
            self.keep(v, coords, value);
            return Ok(value);
        }
        let value = self.produce(v, coords)?;
        let node = self.f.node(v);
        let shared = self.uses[v.node as usize] > 1 || node.name.is_some();
        let computed = self.region.contains(&v.node) && !matches!(node.op, Op::Full { .. });
        let value = if computed && shared { self.k.let_(&self.local_name(v), value) } else { value };
        self.fill(v, coords, value);
        self.keep(v, coords, value);
        Ok(value)
    }

    /// Keeps a value for whatever reads it in this scope.
    pub(super) fn keep(&mut self, v: ValueId, coords: &[Coord], value: Val<'k>) {
        self.scopes.last_mut().expect("a scope is always open").insert((v, coords.to_vec()), value);
    }

    /// A name for a local that holds the value.
    pub fn local_name(&self, v: ValueId) -> String {
        identifier(&self.f.value_name(v))
    }

    fn produce(&mut self, v: ValueId, coords: &[Coord]) -> Lowered<Val<'k>> {
        if let Some((value, anchor)) = &self.anchor
            && *value == v
        {
            let anchor = anchor.clone();
            return anchor.read(self, coords);
        }
        let f = self.f;
        let node = f.node(v);
        let inside = self.region.contains(&v.node) || is_free(f, v.node);
        if !inside {
            return self.load(v, coords);
        }
        let inputs = &node.inputs;
        let dtype = node.types[0].dtype;
        match &node.op {
            Op::Param(p) => match f.params[*p as usize].role {
                Role::Scalar(id) => Ok(self.symbols[id.0 as usize].to_val(DType::I32)),
                _ => self.load(v, coords),
            },
            Op::Constant(d) if d.bytes.len() as u64 == d.dtype.bytes() => Ok(self.dense_scalar(d)),
            Op::Constant(_) => self.load(v, coords),
            Op::Full { value, dtype, .. } => Ok(self.literal(*value, *dtype)),
            Op::FromSize { size, dtype } => {
                let ix = self.size(size)?;
                Ok(self.index_value(ix, compute(*dtype)))
            }
            Op::Iota { dtype, axis, .. } => self.iota(&coords[*axis as usize], compute(*dtype)),
            Op::Unary(op) => {
                let x = self.emit(inputs[0], coords)?;
                self.count(elementwise::unary_flops(*op), coords);
                let y = elementwise::unary(self.k, *op, x);
                Ok(self.rounded(y, dtype))
            }
            Op::Binary(op) => {
                let a = self.emit(inputs[0], coords)?;
                let b = self.emit(inputs[1], coords)?;
                self.count(elementwise::binary_flops(*op), coords);
                let y = elementwise::binary(self.k, *op, a, b);
                Ok(self.rounded(y, dtype))
            }
            Op::Gated(a) => {
                let gate = self.emit(inputs[0], coords)?;
                let up = self.emit(inputs[1], coords)?;
                self.count(elementwise::unary_flops(a.unary()) + 1.0, coords);
                let y = elementwise::unary(self.k, a.unary(), gate);
                let y = self.rounded(y, dtype);
                let y = elementwise::binary(self.k, mlxc_ir::graph::BinaryOp::Multiply, y, up);
                Ok(self.rounded(y, dtype))
            }
            Op::Compare(op) => {
                let a = self.emit(inputs[0], coords)?;
                let b = self.emit(inputs[1], coords)?;
                self.count(1.0, coords);
                Ok(elementwise::compare(*op, a, b))
            }
            Op::Select => {
                let c = self.emit(inputs[0], coords)?;
                let a = self.emit(inputs[1], coords)?;
                let b = self.emit(inputs[2], coords)?;
                self.count(1.0, coords);
                Ok(elementwise::select(c, a, b))
            }
            Op::Cast(to) => {
                let x = self.emit(inputs[0], coords)?;
                self.count(1.0, coords);
                Ok(elementwise::cast(self.k, x, f.ty(inputs[0]).dtype, *to))
            }
            Op::Bitcast(to) => {
                let x = self.emit(inputs[0], coords)?;
                Ok(elementwise::bitcast(x, f.ty(inputs[0]).dtype, *to))
            }
            Op::Broadcast { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Reverse { .. }
            | Op::Windows { .. }
            | Op::DynamicSlice { .. } => self.view(v, coords),
            Op::Concat { axis } => self.concat(v, *axis as usize, coords),
            Op::Pad { .. } => self.pad(v, coords),
            Op::Gather { axis } => {
                let axis = *axis as usize;
                let width = f.ty(inputs[1]).rank();
                let at = self.gathered(inputs[0], inputs[1], axis, &coords[axis..axis + width])?;
                match at {
                    Some(i) => {
                        let mut c = coords[..axis].to_vec();
                        c.push(i);
                        c.extend_from_slice(&coords[axis + width..]);
                        self.emit(inputs[0], &c)
                    }
                    None => self.each_lane(coords, |e, c| e.emit(v, c)),
                }
            }
            Op::TakeAlong { axis } => {
                let axis = *axis as usize;
                match self.gathered(inputs[0], inputs[1], axis, coords)? {
                    Some(i) => {
                        let mut c = coords.to_vec();
                        c[axis] = i;
                        self.emit(inputs[0], &c)
                    }
                    None => self.each_lane(coords, |e, c| e.emit(v, c)),
                }
            }
            Op::GatherNd { axes } => self.gather_nd(v, axes, coords),
            Op::RandomBits { shape, width } => self.random_bits(v, shape, *width, coords),
            Op::Dequantize { .. } => self.dequantized(v, coords),
            Op::SliceUpdate { axes } => self.slice_update(v, axes, coords),
            Op::Reduce { .. } | Op::ArgReduce { .. } | Op::MatMul { .. } => self.reduction(v, coords),
            op => Err(Refusal::new("no-template", format!("`{}` has no elementwise form", op.name()))),
        }
    }

    /// Counts flops at the current trip count.
    pub fn count(&mut self, flops: f64, coords: &[Coord]) {
        let lanes = if self.is_vector(coords) { f64::from(self.width) } else { 1.0 };
        self.work.flops += flops * lanes * self.trips;
    }

    /// Rounds to the stated dtype where every op must.
    pub fn rounded(&self, x: Val<'k>, dtype: DType) -> Val<'k> {
        if self.target.exact && dtype != compute(dtype) { x.cast(dtype).cast(compute(dtype)) } else { x }
    }

    /// A constant in compute type.
    pub fn literal(&self, value: Literal, dtype: DType) -> Val<'k> {
        match (dtype, value) {
            (DType::Bool, v) => {
                let one = self.k.int_constant(i64::from(v.as_f64() != 0.0), DType::U8);
                one.ne(self.k.int_constant(0, DType::U8))
            }
            (DType::F16 | DType::BF16, v) => {
                // The literal takes its dtype's rounding before it is widened.
                let rounded = if dtype == DType::F16 {
                    half::f16::from_f64(v.as_f64()).to_f64()
                } else {
                    half::bf16::from_f64(v.as_f64()).to_f64()
                };
                self.k.constant(rounded, DType::F32)
            }
            (d, v) if d.is_float() => self.k.constant(v.as_f64(), d),
            (d, v) => self.k.int_constant(v.as_i64(), d),
        }
    }

    fn dense_scalar(&self, d: &mlxc_ir::graph::Dense) -> Val<'k> {
        let mut bytes = [0; 8];
        bytes[..d.bytes.len()].copy_from_slice(&d.bytes);
        let bits = u64::from_le_bytes(bytes);
        match d.dtype {
            DType::Bool => self.literal(Literal::Int(i64::from(bits != 0)), DType::Bool),
            d if d == compute(d) => self.k.bits(bits, d),
            d => self.k.bits(bits, d).cast(DType::F32),
        }
    }

    pub(super) fn index_value(&self, ix: Ix<'k>, dtype: DType) -> Val<'k> {
        match dtype {
            DType::Bool => ix.to_val(DType::I32).ne(self.k.int_constant(0, DType::I32)),
            d => ix.to_val(d),
        }
    }

    pub(super) fn iota(&mut self, c: &Coord, dtype: DType) -> Lowered<Val<'k>> {
        let coords = [c.clone()];
        if !self.is_vector(&coords) {
            let ix = self.ix(c);
            return Ok(self.index_value(ix, dtype));
        }
        let base = self.base(&coords);
        let step = c.coefficient(self.lane);
        if step != 0 && base[0].plus(&self.lane(), step) == *c && dtype != DType::Bool {
            let ix = self.ix(&base[0]);
            let lanes = self.k.table(Type::vector(dtype, self.width), |l| l * step);
            return Ok(self.index_value(ix, dtype).splat(self.width) + lanes);
        }
        self.each_lane(&coords, |e, c| {
            let ix = e.ix(&c[0]);
            Ok(e.index_value(ix, dtype))
        })
    }
}

/// Nodes that no kernel is made for: they are redone wherever they are read. A widening cast is one, so that memory
/// holds the narrow value.
pub fn is_free(f: &Function, node: u32) -> bool {
    let n = &f.nodes[node as usize];
    match &n.op {
        Op::Param(_) | Op::Full { .. } | Op::Constant(_) | Op::Iota { .. } | Op::FromSize { .. } => true,
        Op::Cast(to) if to.bytes() > f.ty(n.inputs[0]).dtype.bytes() => true,
        // Memory holds the codes.
        Op::Dequantize { .. } => {
            n.inputs.iter().all(|v| f.param_of(*v).is_some_and(|p| matches!(p.role, Role::Weight(_) | Role::Block)))
        }
        op => op.is_view() || is_computed_constant(f, node, 8),
    }
}

/// True for arithmetic on constants and counters, such as a sign or a mask: cheaper to redo than to store.
fn is_computed_constant(f: &Function, node: u32, depth: u32) -> bool {
    let n = &f.nodes[node as usize];
    match &n.op {
        Op::Full { .. } | Op::Iota { .. } => true,
        op if depth > 0 && (op.is_elementwise() || op.is_view()) => {
            !n.inputs.is_empty() && n.inputs.iter().all(|v| is_computed_constant(f, v.node, depth - 1))
        }
        _ => false,
    }
}

/// The value whose memory `v` lives in: every version of a state is its parameter.
pub fn home(f: &Function, v: ValueId) -> ValueId {
    let mut at = v;
    loop {
        let node = f.node(at);
        at = match &node.op {
            Op::SliceUpdate { .. } => node.inputs[0],
            Op::Call { results, updates, .. } if at.index >= *results => {
                node.inputs[updates[(at.index - results) as usize] as usize]
            }
            // Versions of an updated parameter are one; an update of anything else is a value of its own.
            Op::Param(p) => {
                let state = matches!(f.params[*p as usize].role, Role::State(_));
                return if state || f.updates.iter().any(|(u, _)| u == p) { at } else { v };
            }
            _ => return v,
        };
    }
}

/// A name that kernels can use.
pub fn identifier(name: &str) -> String {
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) || out.is_empty() {
        out.insert(0, 'v');
    }
    out
}
