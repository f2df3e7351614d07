//! Many small cases in one module: compiled once by the real pipeline, run at several sizes, held to the interpreter.

use crate::compare;
use crate::kernels::Random;
use crate::steps::Steps;
use mlxc::pipeline::Options;
use mlxc::{Errors, Executable};
use mlxc_codegen::gpu_profiles::{ShaderLanguage, language};
use mlxc_ir::graph::interpret::{self, Mode, Tensor};
use mlxc_ir::graph::{FunctionBuilder, Module, Op, Role, State, Symbol, SymbolKind, TensorType, ValueId, Weight};
use mlxc_ir::profile::TargetKind;
use mlxc_ir::{DType, Location, Range, Size};
use mlxc_msl_gate::{Build, Gate, GateSession, Order};
use mlxc_runtime::{Device, LoadOptions};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What an argument is filled with.
#[derive(Clone, Debug)]
pub enum Fill {
    /// Floats in -1..1, small integers, even bools.
    Small,
    /// Every magnitude, infinities, NaN, zeros of both signs, subnormals; integers of every width and the extremes.
    Wide,
    /// Uniform between two values.
    Between(f64, f64),
    /// The given values, over and over.
    Cycle(Vec<f64>),
}

/// What a result is held to.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// Ulp of the largest value of the tensor.
    Tensor(f64),
    /// Ulp of each value.
    Each(f64),
}

/// A case of a suite: the op whose result it compares, and the operands it has.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The op.
    pub op: Op,
    /// Types of the operands.
    pub inputs: Vec<TensorType>,
    /// Type of the result.
    pub result: TensorType,
    /// Symbols of the function.
    pub symbols: Vec<Symbol>,
}

thread_local! {
    static RECORDS: RefCell<Option<Vec<Recorded>>> = const { RefCell::new(None) };
}

/// Runs tests of this thread without running their suites, and gives every case those hold.
pub fn record(tests: impl FnOnce()) -> Vec<Recorded> {
    RECORDS.with(|r| *r.borrow_mut() = Some(Vec::new()));
    tests();
    RECORDS.with(|r| r.borrow_mut().take()).unwrap_or_default()
}

/// A module being filled with cases.
pub struct Suite {
    b: FunctionBuilder,
    module: Module,
    fills: Vec<Fill>,
    labels: Vec<(String, Bound)>,
    line: u32,
    /// The results that are kept, where not all are, and the states then.
    results: Option<Vec<usize>>,
    updates: Vec<u32>,
}

/// A constant extent.
pub fn c(n: i64) -> Size {
    Size::constant(n)
}

/// Constant extents.
pub fn sizes(shape: &[i64]) -> Vec<Size> {
    shape.iter().map(|n| c(*n)).collect()
}

impl Suite {
    /// An empty module of one entry.
    pub fn new(name: &str) -> Self {
        Suite {
            b: FunctionBuilder::new(name),
            module: Module::default(),
            fills: Vec::new(),
            labels: Vec::new(),
            line: 0,
            results: None,
            updates: Vec::new(),
        }
    }

    /// A symbolic extent.
    pub fn symbol(&mut self, name: &str, lo: i64, hi: i64) -> Size {
        Size::symbol(self.b.symbol(name, Range::new(lo, hi), 1, SymbolKind::Size))
    }

    /// A fact the runtime checks: the size is at least 0.
    pub fn require(&mut self, size: Size) {
        self.b.require(size);
    }

    fn declare(&mut self, name: &str, role: Role, dtype: DType, shape: &[Size], fill: Fill) -> ValueId {
        self.fills.push(fill);
        self.b.param(name, role, TensorType { dtype, shape: shape.to_vec() }, None)
    }

    /// An input.
    pub fn input(&mut self, dtype: DType, shape: &[Size], fill: Fill) -> ValueId {
        let name = format!("x{}", self.fills.len());
        self.declare(&name, Role::Input, dtype, shape, fill)
    }

    /// A host scalar, which takes its symbol's value.
    pub fn scalar(&mut self, name: &str, lo: i64, hi: i64) -> (ValueId, Size) {
        self.fills.push(Fill::Small);
        let (v, id) = self.b.scalar(name, Range::new(lo, hi), None);
        (v, Size::symbol(id))
    }

    /// A weight.
    pub fn weight(&mut self, dtype: DType, shape: &[i64], fill: Fill) -> ValueId {
        let name = format!("w{}", self.fills.len());
        let ty = TensorType::constant(dtype, shape);
        self.module.weights.push(Weight { name: name.as_str().into(), ty });
        let role = Role::Weight(self.module.weights.len() as u32 - 1);
        self.declare(&name, role, dtype, &sizes(shape), fill)
    }

    /// A state and its parameter number.
    pub fn state(&mut self, dtype: DType, shape: &[i64], fill: Fill) -> (u32, ValueId) {
        let name = format!("s{}", self.fills.len());
        let ty = TensorType::constant(dtype, shape);
        self.module.states.push(State { name: name.as_str().into(), ty });
        let role = Role::State(self.module.states.len() as u32 - 1);
        let v = self.declare(&name, role, dtype, &sizes(shape), fill);
        (self.fills.len() as u32 - 1, v)
    }

    /// Says which value replaces a state.
    pub fn update(&mut self, param: u32, value: ValueId) {
        self.b.update(param, value);
    }

    /// A node.
    ///
    /// # Panics
    /// Where the op does not type.
    pub fn op(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.try_op(op, inputs).unwrap_or_else(|d| panic!("{d}"))
    }

    /// A node, or what inference says.
    ///
    /// # Errors
    /// Inference's.
    pub fn try_op(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId, mlxc_ir::Diagnostic> {
        self.line += 1;
        self.b.node(op, inputs, Some(Location::new("cases.py", self.line, 0)))
    }

    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> TensorType {
        self.b.function().ty(v).clone()
    }

    /// Names a value.
    pub fn name(&mut self, v: ValueId, name: &str) {
        self.b.name(v, name);
    }

    fn result(&mut self, label: String, v: ValueId, bound: Bound) {
        self.b.result(format!("y{}", self.labels.len()), v);
        self.labels.push((label, bound));
    }

    /// A result whose error is measured in ulp of the tensor's largest value.
    pub fn check(&mut self, label: impl Into<String>, v: ValueId, ulp: f64) {
        self.result(label.into(), v, Bound::Tensor(ulp));
    }

    /// A result whose error is measured in ulp of each value.
    pub fn check_each(&mut self, label: impl Into<String>, v: ValueId, ulp: f64) {
        self.result(label.into(), v, Bound::Each(ulp));
    }

    /// The module.
    pub fn module(&self) -> Module {
        let mut f = self.b.clone().finish();
        if let Some(kept) = &self.results {
            f.results = kept.iter().map(|i| f.results[*i].clone()).collect();
            f.updates.retain(|(p, _)| self.updates.contains(p));
        }
        Module { functions: vec![f], ..self.module.clone() }
    }

    /// The arguments at given symbol values.
    pub fn arguments(&self, symbols: &[i64], seed: u64) -> Vec<Tensor> {
        let f = self.b.function();
        assert_eq!(symbols.len(), f.symbols.len(), "a value for each symbol");
        let mut random = Random::new(seed);
        f.params
            .iter()
            .zip(&self.fills)
            .map(|(p, fill)| match p.role {
                Role::Scalar(id) => Tensor::ints(DType::I32, &[], &[symbols[id.0 as usize]]),
                _ => {
                    let shape: Vec<usize> = p.ty.shape.iter().map(|d| d.eval(symbols) as usize).collect();
                    filled(&mut random, p.ty.dtype, &shape, fill)
                }
            })
            .collect()
    }

    /// Compiles for this machine.
    ///
    /// # Errors
    /// What a stage says.
    pub fn compile(&self, options: &Options, threads: usize) -> Result<Executable, Errors> {
        let device = if options.profile.kind == TargetKind::Gpu { Device::Gpu(None) } else { Device::Cpu };
        let load = LoadOptions { threads: Some(threads), device, poison: true, ..LoadOptions::default() };
        Executable::load(&self.module(), options, &self.weights(), &load)
    }

    fn weights(&self) -> BTreeMap<String, Vec<u8>> {
        let f = self.b.function();
        let none = vec![0; f.symbols.len()];
        f.params
            .iter()
            .zip(&self.fills)
            .enumerate()
            .filter(|(_, (p, _))| matches!(p.role, Role::Weight(_)))
            .map(|(i, (p, fill))| (p.name.to_string(), self.weight_tensor(i, p, fill, &none).to_bytes()))
            .collect()
    }

    /// What runs the module: this machine, or the gate in both of its builds for Apple's GPUs.
    fn load(&self, options: &Options, threads: usize) -> Vec<Box<dyn Steps>> {
        let name = &self.b.function().name;
        let failed = |e: &dyn std::fmt::Display| -> ! {
            panic!("suite `{name}`: {e}\n{}", mlxc_ir::graph::text::print(&self.module()))
        };
        let metal = options.profile.kind == TargetKind::Gpu && language(&options.profile) == ShaderLanguage::Msl;
        if !metal {
            return vec![Box::new(self.compile(options, threads).unwrap_or_else(|e| failed(&e)))];
        }
        let compiled = mlxc::pipeline::compile(&self.module(), options).unwrap_or_else(|e| failed(&e));
        let package = compiled.package(&self.weights(), &Vec::new()).unwrap_or_else(|e| failed(&e));
        let gate = Gate::new().unwrap_or_else(|e| failed(&e));
        let builds = [(Build::Strict, Order::Random(3)), (Build::Checked, Order::Reverse)];
        let session = |(build, order)| GateSession::new(&gate, &package, build, order).unwrap_or_else(|e| failed(&e));
        builds.into_iter().map(|b| Box::new(session(b)) as Box<dyn Steps>).collect()
    }

    fn weight_tensor(&self, i: usize, p: &mlxc_ir::graph::Param, fill: &Fill, symbols: &[i64]) -> Tensor {
        let shape: Vec<usize> = p.ty.shape.iter().map(|d| d.eval(symbols) as usize).collect();
        filled(&mut Random::new(1000 + i as u64), p.ty.dtype, &shape, fill)
    }

    /// Compiles once for each target this machine runs (its own, and x86-64-v3, whose vectors are half as wide) and
    /// compares every result and state at each list of symbol values.
    ///
    /// # Panics
    /// Where compilation fails or a result is worse than its bound.
    pub fn run(&self, values: &[&[i64]]) {
        if self.recorded() {
            return;
        }
        let mut targets = vec!["host"];
        if cfg!(target_arch = "x86_64") {
            targets.push("x86-64-v3");
        }
        for target in targets {
            let options = Options::for_target(target).unwrap_or_else(|e| panic!("{e}"));
            self.run_with(&options, 2, values);
        }
        for target in ["vulkan", "webgpu", "apple7"] {
            self.run_on_gpu(target, values);
        }
    }

    /// Compiles for a GPU target and compares as [`Suite::run`] does what the target has types for; what it has none for
    /// is refused. Apple's targets run under the gate for MSL.
    ///
    /// # Panics
    /// As [`Suite::run`], and where there is no Vulkan driver, or no clang for the gate.
    pub fn run_on_gpu(&self, target: &str, values: &[&[i64]]) {
        let options = Options::for_target(target).unwrap_or_else(|e| panic!("{e}"));
        let (kept, refused) = self.split(|v| {
            let dtype = self.b.function().ty(v).dtype;
            matches!(dtype, DType::F64 | DType::I64 | DType::U64) && !options.profile.storage.contains(&dtype)
        });
        if let Some(suite) = refused {
            let e = suite.compile(&options, 1).err().unwrap_or_else(|| panic!("`{}` compiled", suite.labels[0].0));
            assert_eq!(e.0[0].id, 545, "{}: {e}", suite.labels[0].0);
        }
        if !kept.labels.is_empty() || !kept.updates.is_empty() {
            kept.run_with(&options, 2, values);
        }
    }

    /// The results that no value of some kind goes into, and one of the others.
    fn split(&self, unfit: impl Fn(ValueId) -> bool) -> (Suite, Option<Suite>) {
        let f = self.b.function();
        let mut bad = vec![false; f.nodes.len()];
        for (i, node) in f.nodes.iter().enumerate() {
            let own = (0..node.types.len() as u32).any(|index| unfit(ValueId { node: i as u32, index }));
            // A value that a cast makes of it needs it all the same.
            bad[i] = own || node.inputs.iter().any(|v| bad[v.node as usize]);
        }
        let with = |keep: &dyn Fn(usize) -> bool, updates: bool| Suite {
            b: self.b.clone(),
            module: self.module.clone(),
            fills: self.fills.clone(),
            labels: self.labels.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, l)| l.clone()).collect(),
            line: self.line,
            results: Some((0..f.results.len()).filter(|i| keep(*i)).collect()),
            updates: f.updates.iter().filter(|(_, v)| updates && !bad[v.node as usize]).map(|(p, _)| *p).collect(),
        };
        let good = |i: usize| !bad[f.results[i].value.node as usize];
        let first = (0..f.results.len()).find(|i| !good(*i));
        (with(&good, true), first.map(|n| with(&|i| i == n, false)))
    }

    /// Notes the cases where they are only counted.
    fn recorded(&self) -> bool {
        let f = self.b.function();
        RECORDS.with(|records| {
            let mut records = records.borrow_mut();
            let Some(list) = records.as_mut() else { return false };
            let updates = f.updates.iter().map(|(_, v)| *v);
            for v in f.results.iter().map(|r| r.value).chain(updates) {
                let node = f.node(v);
                list.push(Recorded {
                    op: node.op.clone(),
                    inputs: node.inputs.iter().map(|i| f.ty(*i).clone()).collect(),
                    result: f.ty(v).clone(),
                    symbols: f.symbols.clone(),
                });
            }
            true
        })
    }

    /// As [`Suite::run`], with given options and threads.
    ///
    /// # Panics
    /// As [`Suite::run`].
    pub fn run_with(&self, options: &Options, threads: usize, values: &[&[i64]]) {
        let name = &self.b.function().name;
        // Shading languages round quotients and roots less well, and long sums of GPUs have no wider accumulators.
        let slack = if options.profile.kind == TargetKind::Gpu { 2.0 } else { 1.0 };
        let mut wrong = Vec::new();
        for mut run in self.load(options, threads) {
            for (i, symbols) in values.iter().enumerate() {
                self.step(run.as_mut(), slack, symbols, 7 + i as u64, &mut wrong);
            }
        }
        assert!(wrong.is_empty(), "suite `{name}` for {}:\n{}", options.profile.name, wrong.join("\n"));
    }

    fn step(&self, run: &mut dyn Steps, slack: f64, symbols: &[i64], seed: u64, wrong: &mut Vec<String>) {
        let module = self.module();
        let f = &module.functions[0];
        let mut args = self.arguments(symbols, seed);
        for (i, p) in f.params.iter().enumerate() {
            if matches!(p.role, Role::Weight(_)) {
                args[i] = self.weight_tensor(i, p, &self.fills[i], symbols);
            }
        }
        let meant = |mode| interpret::run(&module, f, &args, mode).unwrap_or_else(|e| panic!("`{}`: {e}", f.name));
        let (reference, stated) = (meant(Mode::Reference), meant(Mode::Stated));
        let mut inputs: Vec<(&str, &Tensor)> = Vec::new();
        for (p, t) in f.params.iter().zip(&args) {
            match p.role {
                Role::Weight(_) => {}
                Role::State(_) => run.set_state(&p.name, t),
                _ => inputs.push((&p.name, t)),
            }
        }
        let got = run.step(f, symbols, &inputs);
        for (i, got) in got.iter().enumerate() {
            let (label, bound) = &self.labels[i];
            let (want, own) = (&reference.results[i], &stated.results[i]);
            let worst = match bound {
                Bound::Tensor(ulp) => compare::excess(got, want, own, ulp * slack),
                Bound::Each(ulp) => compare::excess_each(got, want, own, ulp * slack),
            };
            if worst > 1.0 || worst.is_nan() {
                wrong.push(report(label, symbols, worst, got, want, own));
            }
        }
        for (k, (param, want)) in reference.updates.iter().enumerate() {
            let name = &f.params[*param as usize].name;
            let got = run.state(name, want);
            let own = &stated.updates[k].1;
            let worst = compare::excess(&got, want, own, 8.0 * slack);
            if worst > 1.0 {
                wrong.push(report(&format!("state {name}"), symbols, worst, &got, want, own));
            }
        }
    }

    /// Asserts that compilation is refused with an id, and that the message names the op or value.
    ///
    /// # Panics
    /// Where it is not.
    pub fn refused(&self, id: u16, mention: &str) {
        let options = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
        match self.compile(&options, 1) {
            Ok(_) => panic!("`{}` compiled", self.b.function().name),
            Err(e) => {
                assert_eq!(e.0[0].id, id, "{e}");
                assert!(e.to_string().contains(mention), "no `{mention}` in: {e}");
            }
        }
    }
}

fn report(label: &str, symbols: &[i64], worst: f64, got: &Tensor, want: &Tensor, own: &Tensor) -> String {
    let bad: Vec<String> = (0..got.len().min(want.len()))
        .filter(|i| {
            let (g, w) = (got.float(*i), want.float(*i));
            !(g == w || g.is_nan() && w.is_nan())
        })
        .take(8)
        .map(|i| format!("[{i}] got {:e} want {:e} stated {:e}", got.float(i), want.float(i), own.float(i)))
        .collect();
    format!(
        "{label} ({}{:?}) at {symbols:?}: {worst:.3} times the allowed error: {}",
        got.dtype,
        got.shape,
        bad.join("; ")
    )
}

/// A runtime tensor as the interpreter's.
pub fn tensor(t: &mlxc_runtime::Tensor) -> Tensor {
    let shape: Vec<usize> = t.shape().iter().map(|n| *n as usize).collect();
    Tensor::from_bytes(t.dtype(), &shape, t.bytes()).expect("a tensor holds its elements")
}

/// A tensor of a kind.
pub fn filled(random: &mut Random, dtype: DType, shape: &[usize], fill: &Fill) -> Tensor {
    let n: usize = shape.iter().product();
    match fill {
        Fill::Small => random.tensor(dtype, shape),
        Fill::Between(lo, hi) if dtype.is_float() => {
            let v: Vec<f64> = (0..n).map(|_| lo + (random.unit() + 1.0) / 2.0 * (hi - lo)).collect();
            Tensor::floats(dtype, shape, &v)
        }
        Fill::Between(lo, hi) => {
            let v: Vec<i64> = (0..n).map(|_| *lo as i64 + random.below((hi - lo) as u64 + 1) as i64).collect();
            Tensor::ints(dtype, shape, &v)
        }
        Fill::Cycle(values) if dtype.is_float() => {
            let v: Vec<f64> = (0..n).map(|i| values[i % values.len()]).collect();
            Tensor::floats(dtype, shape, &v)
        }
        Fill::Cycle(values) => {
            let v: Vec<i64> = (0..n).map(|i| values[i % values.len()] as i64).collect();
            Tensor::ints(dtype, shape, &v)
        }
        Fill::Wide if dtype.is_float() => {
            let v: Vec<f64> = (0..n).map(|_| wide(random, dtype)).collect();
            Tensor::floats(dtype, shape, &v)
        }
        Fill::Wide => {
            let v: Vec<i64> = (0..n)
                .map(|_| match random.below(8) {
                    0 => [0, 1, -1, i64::MAX, i64::MIN, 2, 7, -7][random.below(8) as usize],
                    1 => i64::MIN >> (64 - 8 * dtype.bytes()),
                    2 => !(i64::MIN >> (64 - 8 * dtype.bytes())),
                    3 | 4 => random.below(21) as i64 - 10,
                    _ => random.bits() as i64,
                })
                .collect();
            Tensor::ints(dtype, shape, &v)
        }
    }
}

fn wide(random: &mut Random, dtype: DType) -> f64 {
    let (small, large) = match dtype {
        DType::F16 => (2f64.powi(-20), 6e4),
        DType::F64 => (1e-310, 1e300),
        _ => (1e-40, 3e38),
    };
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        small,
        -small,
        large,
        -large,
    ];
    match random.below(4) {
        0 => special[random.below(special.len() as u64) as usize],
        1 => random.unit(),
        2 => random.unit() * 100.0,
        _ => random.unit() * 10f64.powi(random.below(9) as i32 - 6),
    }
}
