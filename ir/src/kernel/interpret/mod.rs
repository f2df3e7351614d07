//! The interpreter: what a kernel means, run on the host.
//!
//! Groups run one after the other in a seeded order, the lanes of a group in lockstep under masks. It refuses what
//! the verifier cannot prove away: undefined memory, races, uncovered outputs, zero divisors, divergent collectives.
//! Where the Kernel IR leaves a rounding or an order to the target, it takes a seeded choice.

mod arith;
mod collective;
mod eval;
mod exec;
mod memory;
mod special;

use super::scalar;
use super::types::*;
use crate::Diagnostic;
use eval::Indices;
use memory::{Array, Toucher};
use mlxc_package::DType;
use smallvec::SmallVec;

/// Contents of a buffer: one `u64` an element, holding its bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferData {
    /// Element type.
    pub dtype: DType,
    /// Elements in row-major order.
    pub bits: Vec<u64>,
}

impl BufferData {
    /// Elements of value 0.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        BufferData { dtype, bits: vec![0; len] }
    }

    /// Numbers rounded to the type.
    pub fn of(dtype: DType, values: impl IntoIterator<Item = f64>) -> Self {
        BufferData { dtype, bits: values.into_iter().map(|v| scalar::from_f64(dtype, v)).collect() }
    }

    /// The elements as numbers; exact but for 64-bit integers.
    pub fn values(&self) -> Vec<f64> {
        self.bits.iter().map(|b| scalar::to_f64(self.dtype, *b)).collect()
    }

    /// From little-endian bytes; what is left of the last element is dropped.
    pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Self {
        let element = |chunk: &[u8]| chunk.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
        BufferData { dtype, bits: bytes.chunks_exact(dtype.bytes() as usize).map(element).collect() }
    }

    /// To little-endian bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let n = self.dtype.bytes() as usize;
        self.bits.iter().flat_map(|b| b.to_le_bytes().into_iter().take(n)).collect()
    }
}

/// A value of a symbol or argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// Of a symbol, an index argument, or an integer argument (wraps).
    Int(i64),
    /// Of a float argument (rounds to nearest even).
    Float(f64),
}

/// The order groups run in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// A permutation drawn from the seed.
    #[default]
    Shuffled,
    /// As numbered.
    Ascending,
    /// From the last to the first.
    Descending,
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Drives every choice the Kernel IR leaves open.
    pub seed: u64,
    /// The order of groups.
    pub order: Order,
    /// Lanes of a subgroup in phases that say `subgroup any`.
    pub subgroup_width: u32,
    /// Elementary functions (not `sqrt`) err by up to this many units in the last place, as the seed has it.
    pub math_ulp: u32,
    /// Statements executed before giving up.
    pub statement_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: 0, order: Order::Shuffled, subgroup_width: 32, math_ulp: 0, statement_limit: 1 << 32 }
    }
}

/// Runs a kernel. `buffers` are in the order of [`Kernel::buffers`], each as long as its shape says; contents of
/// `write` and `scratch` buffers are undefined until stored. `scalars` name every symbol and argument.
///
/// # Errors
/// `MLXC0550` a `write` buffer not covered, `0551` undefined memory loaded, `0552` a race between lanes, `0553` between
/// groups, `0554` out of bounds, `0555` a collective in divergent flow, `0557` a zero divisor or shift amount, `0558`
/// buffers or scalars that do not fit the kernel, `0559` the statement limit.
pub fn run(
    kernel: &Kernel,
    buffers: &mut [BufferData],
    scalars: &[(&str, Scalar)],
    options: &Options,
) -> Result<(), Diagnostic> {
    let unfit = |what: String| {
        Diagnostic::new(558, "buffers or scalars do not fit the kernel")
            .note(what)
            .note(format!("in kernel `{}`", kernel.name))
    };
    let mut m = Machine {
        k: kernel,
        vars: vec![Indices::One(0); kernel.vars.len()],
        args: vec![0; kernel.args.len()],
        locals: (0..kernel.locals.len()).map(|_| exec::Slot::default()).collect(),
        buffers: Vec::new(),
        groups: Vec::new(),
        lanes: 1,
        width: 1,
        who: Toucher { launch: 0, group: 0, lane: 0, subgroup: 0, interval: 0, subgroup_interval: 0 },
        buffer_interval: 0,
        random: options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d,
        statement: None,
        math_ulp: u64::from(options.math_ulp),
        statements: options.statement_limit,
    };
    let find = |name: &str| scalars.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let bounded = |m: &mut Machine<'_>, var: VarId, lo: i64, hi: i64, multiple: i64| {
        let name = kernel.var_name(var);
        match find(name) {
            Some(Scalar::Int(v)) if lo <= v && v <= hi && v % multiple.max(1) == 0 => {
                m.vars[var.index()] = Indices::One(v);
                Ok(())
            }
            Some(v) => Err(unfit(format!("`{name}` cannot be {v:?}")).expected(format!("{lo}..={hi} mult {multiple}"))),
            None => Err(unfit(format!("`{name}` has no value"))),
        }
    };
    for s in &kernel.symbols {
        bounded(&mut m, s.var, s.lo, s.hi, s.multiple)?;
    }
    for (i, a) in kernel.args.iter().enumerate() {
        match a.kind {
            ArgKind::Index { var, lo, hi } => bounded(&mut m, var, lo, hi, 1)?,
            ArgKind::Scalar(d) => {
                m.args[i] = match find(&a.name) {
                    Some(Scalar::Int(v)) => scalar::from_i64(d, v),
                    Some(Scalar::Float(v)) => scalar::from_f64(d, v),
                    None => return Err(unfit(format!("`{}` has no value", a.name))),
                }
            }
        }
    }
    for fact in &kernel.require {
        if m.uniform(*fact)? < 0 {
            return Err(unfit(format!("`require {} >= 0` does not hold", super::print_index(kernel, *fact))));
        }
    }
    if buffers.len() != kernel.buffers.len() {
        return Err(unfit(format!("{} buffers are needed, not {}", kernel.buffers.len(), buffers.len())));
    }
    for (b, data) in kernel.buffers.iter().zip(buffers.iter()) {
        let shape = b.shape.iter().map(|e| m.uniform(*e)).collect::<Result<SmallVec<[i64; 4]>, _>>()?;
        let len = shape.iter().try_fold(1i64, |n, d| n.checked_mul(*d)).unwrap_or(-1);
        if data.dtype != b.dtype || i64::try_from(data.bits.len()) != Ok(len) {
            let found = format!("{}[{}]", data.dtype, data.bits.len());
            return Err(unfit(format!("`{}` does not fit", b.name))
                .expected(format!("{}{shape:?}", b.dtype))
                .found(found));
        }
        let undefined = matches!(b.access, Access::Write | Access::Scratch);
        m.buffers.push(Array::new(&b.name, shape, data.bits.clone(), undefined, b.access != Access::Read));
    }
    for step in &kernel.steps {
        m.step(step, options)?;
    }
    for (b, array) in kernel.buffers.iter().zip(&m.buffers) {
        if b.access == Access::Write
            && let Some(at) = array.uncovered()
        {
            return Err(Diagnostic::new(550, format!("`{}` is not stored everywhere", b.name))
                .found(format!("{at} is left"))
                .note(format!("in kernel `{}`", kernel.name)));
        }
    }
    for (data, array) in buffers.iter_mut().zip(m.buffers) {
        data.bits = array.data;
    }
    Ok(())
}

/// Everything a running kernel has.
struct Machine<'k> {
    k: &'k Kernel,
    vars: Vec<Indices>,
    args: Vec<u64>,
    locals: Vec<exec::Slot>,
    buffers: Vec<Array>,
    /// Arrays of the group that runs, by position in [`Kernel::groups`].
    groups: Vec<Option<Array>>,
    lanes: usize,
    /// Lanes in a subgroup.
    width: usize,
    /// The group and its barrier intervals; the lane is filled in for each access.
    who: Toucher,
    /// Interval of buffers, which plain barriers do not order.
    buffer_interval: u32,
    random: u64,
    statement: Option<&'k Stmt>,
    math_ulp: u64,
    /// Statements left.
    statements: u64,
}

impl<'k> Machine<'k> {
    /// The next of a seeded sequence (splitmix64).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn step(&mut self, step: &'k Step, options: &Options) -> Result<(), Diagnostic> {
        match step {
            Step::Phase(phase) => self.phase(phase, options),
            Step::Serial { var, lo, hi, step, body } => {
                let (mut at, hi) = (self.uniform(*lo)?, self.uniform(*hi)?);
                while at < hi {
                    self.vars[var.index()] = Indices::One(at);
                    for step in body {
                        self.step(step, options)?;
                    }
                    at = at.saturating_add((*step).max(1));
                }
                Ok(())
            }
        }
    }

    fn phase(&mut self, phase: &'k Phase, options: &Options) -> Result<(), Diagnostic> {
        self.who.launch += 1;
        self.lanes = phase.lanes.max(1) as usize;
        self.width = match phase.subgroup {
            Subgroup::None => self.lanes,
            Subgroup::Fixed(w) => usize::from(w),
            Subgroup::Any => options.subgroup_width.max(1) as usize,
        };
        let extents = phase.grid.iter().map(|(_, e)| self.uniform(*e)).collect::<Result<Vec<i64>, _>>()?;
        let count = extents.iter().try_fold(1i64, |n, e| n.checked_mul((*e).max(0)));
        let count = count.filter(|n| *n <= 1 << 26).ok_or_else(|| Diagnostic::new(559, "the grid is too large"))?;
        let mut order: Vec<i64> = (0..count).collect();
        match options.order {
            Order::Ascending => {}
            Order::Descending => order.reverse(),
            Order::Shuffled => {
                for i in (1..order.len()).rev() {
                    order.swap(i, (self.draw() % (i as u64 + 1)) as usize);
                }
            }
        }
        for group in order {
            let mut rest = group;
            for ((axis, _), extent) in phase.grid.iter().zip(&extents).rev() {
                self.vars[axis.index()] = Indices::One(rest % extent);
                rest /= extent;
            }
            self.who.group = group as u64;
            (self.who.interval, self.who.subgroup_interval, self.buffer_interval) = (0, 0, 0);
            self.groups.clear();
            self.groups.resize_with(self.k.groups.len(), || None);
            for id in &phase.memory {
                let g = self.k.group(*id);
                if g.bytes() > 1 << 28 {
                    return Err(Diagnostic::new(559, format!("`{}` is too large", g.name)));
                }
                let shape: SmallVec<[i64; 4]> = g.shape.iter().map(|d| i64::from(*d)).collect();
                let len = shape.iter().product::<i64>() as usize;
                let array = Array::new(&g.name, shape, vec![0; len], true, self.lanes > 1);
                self.groups[id.index()] = Some(array);
            }
            let all = vec![true; self.lanes];
            self.block(&phase.body, &all).map_err(|d| self.describe(d, phase, group))?;
        }
        self.statement = None;
        Ok(())
    }

    fn describe(&self, mut d: Diagnostic, phase: &Phase, group: i64) -> Diagnostic {
        d = d.note(format!("in kernel `{}`, phase `{}`, group {group}", self.k.name, phase.name));
        match self.statement {
            Some(stmt) => d.note(format!("at `{}`", super::print::print_statement(self.k, stmt))),
            None => d,
        }
    }

    fn array(&mut self, memory: Memory) -> Result<&mut Array, Diagnostic> {
        match memory {
            Memory::Buffer(b) => Ok(&mut self.buffers[b.index()]),
            Memory::Group(g) => self.groups[g.index()]
                .as_mut()
                .ok_or_else(|| Diagnostic::new(502, format!("`{}` is not of this phase", self.k.group(g).name))),
        }
    }

    fn toucher(&self, memory: Memory, lane: usize) -> Toucher {
        let mut who = Toucher { lane: lane as u32, subgroup: (lane / self.width) as u32, ..self.who };
        if matches!(memory, Memory::Buffer(_)) {
            (who.interval, who.subgroup_interval) = (self.buffer_interval, 0);
        }
        who
    }
}
