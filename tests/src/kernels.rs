//! Running a partitioned function in the Kernel IR interpreter.

use mlxc_ir::graph::interpret::{self, Mode, Tensor, bind};
use mlxc_ir::graph::{Function, Module, Op, Role, SymbolKind, ValueId};
use mlxc_ir::kernel::{Access, BufferData, Kernel, Options, Scalar, print, run, verify};
use mlxc_ir::{DType, Layout, TargetProfile};
use mlxc_passes::choices::Choices;
use mlxc_passes::decompose::decompose;
use mlxc_passes::lower::emit::{Target, home};
use mlxc_passes::partition::{Partition, partition, stored_root};
use mlxc_passes::storage::wanted;
use std::collections::{BTreeMap, HashMap};

/// Decomposes and partitions a function, verifies its kernels, and runs them; gives results then updates.
pub fn kernels(f: &Function, profile: &TargetProfile, fuse: bool) -> (Function, Partition, BTreeMap<u32, Layout>) {
    let f = decompose(f).expect("the function decomposes");
    let layouts = wanted(&f, profile);
    let target = Target { profile, layouts: &layouts, exact: false, choices: Choices::FORMULAS };
    let p = partition(&f, &target, &[], fuse).unwrap_or_else(|r| panic!("no partition: {} {}", r.code, r.text));
    for g in &p.groups {
        if let Err(e) = verify(&g.built.kernel) {
            panic!("{}\n{}", print(&g.built.kernel), e[0]);
        }
    }
    (f, p, layouts)
}

fn stored_dtype(d: DType) -> DType {
    if d == DType::Bool { DType::U8 } else { d }
}

/// What runs a kernel on its buffers, given the values of symbols by name.
pub type Run<'r> = dyn FnMut(&Kernel, &mut Vec<BufferData>, &[(&str, Scalar)]) + 'r;

/// Runs kernels in order on one tensor for each parameter.
pub fn execute(
    f: &Function,
    p: &Partition,
    layouts: &BTreeMap<u32, Layout>,
    args: &[Tensor],
    run: &mut Run<'_>,
) -> Vec<Tensor> {
    let symbols = bind(f, args).expect("arguments fit");
    let mut memory: HashMap<ValueId, BufferData> = HashMap::new();
    let extents = |v: ValueId| -> Vec<usize> { f.ty(v).shape.iter().map(|d| d.eval(&symbols) as usize).collect() };
    let layout = |v: ValueId| match f.node(v).op {
        Op::Param(p) => layouts.get(&p).copied().unwrap_or_default(),
        _ => Layout::RowMajor,
    };
    for (i, node) in f.nodes.iter().enumerate() {
        let v = ValueId::of(i);
        let bytes = match &node.op {
            Op::Param(p) => args[*p as usize].to_bytes(),
            Op::Constant(d) => d.bytes.clone(),
            _ => continue,
        };
        let dtype = f.ty(v).dtype;
        let shape: Vec<u64> = extents(v).iter().map(|n| *n as u64).collect();
        let bytes = layout(v).store(&bytes, &shape, dtype.bytes() as usize);
        memory.insert(v, BufferData::from_bytes(stored_dtype(dtype), &bytes));
    }
    let scalars: Vec<(&str, Scalar)> =
        f.symbols.iter().zip(&symbols).map(|(s, v)| (&*s.name, Scalar::Int(*v))).collect();
    for g in &p.groups {
        let mut buffers: Vec<BufferData> = Vec::new();
        for b in &g.built.bindings {
            let ty = b.scratch.as_ref().unwrap_or(f.ty(b.value));
            let n: usize = ty.shape.iter().map(|d| d.eval(&symbols) as usize).product();
            let dtype = stored_dtype(ty.dtype);
            let fresh = || BufferData::zeros(dtype, n);
            let held = if b.access == Access::Scratch { None } else { memory.get(&b.value).cloned() };
            buffers.push(held.unwrap_or_else(fresh));
        }
        run(&g.built.kernel, &mut buffers, &scalars);
        for (b, data) in g.built.bindings.iter().zip(buffers) {
            if !matches!(b.access, Access::Read | Access::Scratch) {
                memory.insert(b.value, data);
            }
        }
    }
    f.roots()
        .map(|v| {
            let at = home(f, stored_root(f, v));
            let dtype = f.ty(v).dtype;
            let shape: Vec<u64> = extents(at).iter().map(|n| *n as u64).collect();
            // What has no elements is stored nowhere.
            let stored = memory.get(&at).map(BufferData::to_bytes).unwrap_or_default();
            let bytes = layout(at).restore(&stored, &shape, dtype.bytes() as usize);
            Tensor::from_bytes(dtype, &extents(v), &bytes).expect("a buffer holds its tensor")
        })
        .collect()
}

/// Compares kernels, run in the Kernel IR's interpreter, with the interpreter of graphs on given arguments.
///
/// # Panics
/// Where a result is worse than its dtype allows.
pub fn check(f: &Function, profile: &TargetProfile, args: &[Tensor], ulp: f64) {
    check_with(f, profile, args, ulp, &mut |kernel, buffers, scalars| {
        if let Err(e) = run(kernel, buffers, scalars, &Options { seed: 7, ..Options::default() }) {
            panic!("{}\n{e}", print(kernel));
        }
    });
}

/// As [`check`], with kernels run by the caller.
///
/// # Panics
/// As [`check`].
pub fn check_with(f: &Function, profile: &TargetProfile, args: &[Tensor], ulp: f64, run: &mut Run<'_>) {
    let module = Module::default();
    let all = |mode| {
        let out = interpret::run(&module, f, args, mode).expect("the interpreter runs");
        out.results.into_iter().chain(out.updates.into_iter().map(|(_, t)| t)).collect::<Vec<_>>()
    };
    let (reference, stated) = (all(Mode::Reference), all(Mode::Stated));
    for fuse in [true, false] {
        let (g, p, layouts) = kernels(f, profile, fuse);
        let got = execute(&g, &p, &layouts, args, run);
        for (i, t) in got.iter().enumerate() {
            let worst = crate::compare::excess(t, &reference[i], &stated[i], ulp);
            assert!(
                worst <= 1.0,
                "result {i} of `{}` (fuse: {fuse}) is {worst:.3} times the allowed error\n{}\ngot {:?}\nwant {:?}",
                f.name,
                p.groups.iter().map(|g| print(&g.built.kernel)).collect::<String>(),
                &t.to_floats()[..t.len().min(16)],
                &reference[i].to_floats()[..t.len().min(16)],
            );
        }
    }
}

/// A deterministic stream of test data.
pub struct Random(u64);

impl Random {
    /// A stream by number.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in -1..1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n.max(1)
    }

    /// A tensor: floats in -1..1, integers small, bools even.
    pub fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        if dtype.is_float() {
            let v: Vec<f64> = (0..n).map(|_| self.unit()).collect();
            return Tensor::floats(dtype, shape, &v);
        }
        let v: Vec<i64> = (0..n)
            .map(|_| match dtype {
                DType::Bool => self.below(2) as i64,
                d if d.is_signed_int() => self.below(41) as i64 - 20,
                _ => self.below(41) as i64,
            })
            .collect();
        Tensor::ints(dtype, shape, &v)
    }
}

/// Arguments for a function: random tensors at given symbol values; host scalars take their symbol's value.
pub fn arguments(f: &Function, symbols: &[i64], seed: u64) -> Vec<Tensor> {
    let mut random = Random::new(seed);
    assert_eq!(symbols.len(), f.symbols.len());
    f.params
        .iter()
        .map(|p| match p.role {
            Role::Scalar(id) => {
                debug_assert_eq!(f.symbols[id.0 as usize].kind, SymbolKind::Scalar);
                Tensor::ints(DType::I32, &[], &[symbols[id.0 as usize]])
            }
            _ => {
                let shape: Vec<usize> = p.ty.shape.iter().map(|d| d.eval(symbols) as usize).collect();
                random.tensor(p.ty.dtype, &shape)
            }
        })
        .collect()
}
