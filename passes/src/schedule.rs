//! From partitioned functions to a plan: kernels listed once, calls expanded into launches, memory laid out.

use crate::activations::expand;
use crate::choices::Choices;
use crate::computed::{Computed, computed};
use crate::lower::emit::{Target, home};
use crate::memory::{self, Interval, align};
use crate::partition::{CALL, Group, Partition, Raised, Refused, partition, stored_root};
use crate::prepare::prepare;
use crate::storage::{Layouts, Source, constant_params};
use mlxc_ir::graph::{Function, Module, Op, Role, SymbolKind, TensorType, ValueId};
use mlxc_ir::kernel::{self, Access, Index, IndexId, Kernel};
use mlxc_ir::{DType, Diagnostic, Layout, Size, SymId, TargetProfile};
use mlxc_package::plan;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A weight to be written into the package.
#[derive(Clone, Debug)]
pub struct StoredWeight {
    /// Where its elements come from.
    pub source: Source,
    /// Logical type.
    pub ty: TensorType,
    /// Storage order.
    pub layout: Layout,
}

/// A plan with the kernels it launches; the kernels' code and group memory come from code generation.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// The plan; `group_bytes` of its phases are those of the Kernel IR before legalisation.
    pub plan: plan::Plan,
    /// Kernels, in the plan's order.
    pub kernels: Vec<Kernel>,
    /// Weights, in the plan's order.
    pub weights: Vec<StoredWeight>,
    /// What partitioning tried, by function.
    pub merges: Vec<Merges>,
    /// What each kernel computes of each function, producers first.
    pub computed: Vec<Computed>,
}

/// What partitioning tried in one function.
#[derive(Clone, Debug)]
pub struct Merges {
    /// The function.
    pub function: String,
    /// Merges that were refused.
    pub refused: Vec<Refused>,
    /// Merges that raised the peak of scratch memory.
    pub raised: Vec<Raised>,
}

/// How to schedule.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Fuse kernels; false leaves one an op.
    pub fuse: bool,
    /// Round every op's result to its dtype.
    pub exact: bool,
    /// Threads; the result does not depend on it.
    pub threads: usize,
    /// Sizes of kernels that were measured.
    pub choices: &'a Choices,
}

/// Lowers and plans a module whose composites are decomposed and whose weights are joined.
///
/// # Errors
/// `MLXC0320` an op without a kernel, `MLXC0321` a result that cannot be bound, `MLXC0322` an entry with a block parameter, or what layouts say.
pub fn schedule(
    module: &Module,
    sources: &[Source],
    layouts: &Layouts,
    profile: &TargetProfile,
    options: Options<'_>,
) -> Result<Scheduled, Diagnostic> {
    let functions: Vec<Function> = ready(module, profile)?;
    let mut parts = Vec::new();
    let mut merges = Vec::new();
    for (f, p) in functions.iter().zip(partitions(module, &functions, layouts, profile, options)?) {
        tracing::debug!("`{}`: {} kernels, {} merges refused", f.name, p.groups.len(), p.refused.len());
        for r in &p.raised {
            tracing::debug!(
                "`{}`: a merge gains {:.2} µs and raises the peak to {} bytes",
                f.name,
                r.gain * 1e6,
                r.peak[1]
            );
        }
        merges.push(Merges { function: f.name.clone(), refused: p.refused.clone(), raised: p.raised.clone() });
        parts.push(p);
    }
    let mut s = Scheduler {
        module,
        sources,
        layouts,
        functions: &functions,
        parts: &parts,
        out: Scheduled {
            plan: plan::Plan::default(),
            kernels: Vec::new(),
            weights: Vec::new(),
            merges,
            computed: Vec::new(),
        },
        bodies: HashMap::new(),
        names: BTreeSet::new(),
        listed: BTreeMap::new(),
        weights: BTreeMap::new(),
        constants: HashMap::new(),
    };
    s.states();
    for (i, _) in functions.iter().enumerate().filter(|(_, f)| !f.is_block) {
        let entry = s.entry(i)?;
        tracing::debug!(
            "schedule of `{}`: {} launches, arena {} of at least {} bytes by {}",
            entry.name,
            entry.launches.len(),
            entry.arena.bytes,
            entry.arena.lower_bound,
            entry.arena.strategy
        );
        s.out.plan.entries.push(entry);
    }
    s.out.computed = computed(&functions, &parts, &s.listed);
    Ok(s.out)
}

/// The functions as they are lowered, with their kernels.
///
/// # Errors
/// `MLXC0320` an op without a kernel.
pub fn kernels(
    module: &Module,
    layouts: &Layouts,
    profile: &TargetProfile,
    options: Options<'_>,
) -> Result<Vec<(Function, Partition)>, Diagnostic> {
    let functions: Vec<Function> = ready(module, profile)?;
    let parts = partitions(module, &functions, layouts, profile, options)?;
    Ok(functions.into_iter().zip(parts).collect())
}

/// Every function as it is partitioned for a target.
fn ready(module: &Module, profile: &TargetProfile) -> Result<Vec<Function>, Diagnostic> {
    module.functions.iter().map(|f| prepare(&expand(f, profile)?)).collect()
}

/// Every function's kernels, functions in parallel: they do not depend on each other.
fn partitions(
    module: &Module,
    functions: &[Function],
    layouts: &Layouts,
    profile: &TargetProfile,
    options: Options<'_>,
) -> Result<Vec<Partition>, Diagnostic> {
    let weights = constant_params(module);
    let one = |i: usize| {
        let f = &functions[i];
        let target = Target { profile, layouts: &layouts.params[i], exact: options.exact, choices: options.choices };
        tracing::debug!("partition of `{}`: {} nodes", f.name, f.nodes.len());
        partition(f, &target, &weights[i], options.fuse).map_err(|r| {
            Diagnostic::new(320, format!("`{}` cannot be lowered: {}", f.name, r.text))
                .note(format!("reason {}", r.code))
        })
    };
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<Partition, Diagnostic>>>> = Mutex::new(vec![None; functions.len()]);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= functions.len() {
                break;
            }
            let result = one(i);
            done.lock().expect("invariant: no thread panics holding the lock")[i] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.threads.clamp(1, functions.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let done = done.into_inner().expect("invariant: no thread panics holding the lock");
    done.into_iter().map(|p| p.expect("invariant: every function was partitioned")).collect()
}

struct Scheduler<'a> {
    module: &'a Module,
    sources: &'a [Source],
    layouts: &'a Layouts,
    functions: &'a [Function],
    parts: &'a [Partition],
    out: Scheduled,
    /// Kernel numbers by text without name and comments.
    bodies: HashMap<String, u32>,
    names: BTreeSet<String>,
    /// Kernel numbers of groups seen already: a block is listed once, however often it is called.
    listed: BTreeMap<(usize, usize), u32>,
    /// Plan numbers of module weights.
    weights: BTreeMap<u32, u32>,
    constants: HashMap<mlxc_ir::graph::Dense, u32>,
}

/// An entry being built.
struct Building {
    symbols: Vec<mlxc_ir::graph::Symbol>,
    buffers: Vec<plan::Buffer>,
    launches: Vec<plan::Launch>,
    outputs: BTreeMap<ValueId, u32>,
    /// Types of the entry's results: what an output's memory is to the caller.
    result_types: Vec<TensorType>,
    weight_buffers: BTreeMap<u32, u32>,
    state_buffers: BTreeMap<u32, u32>,
}

impl Scheduler<'_> {
    fn states(&mut self) {
        for (i, s) in self.module.states.iter().enumerate() {
            let shape = plain(&s.ty);
            let layout = self.layouts.states[i];
            let bytes = stored_bytes(s.ty.dtype, layout, &shape);
            let state = plan::State { name: s.name.to_string(), dtype: s.ty.dtype, shape, layout, bytes };
            self.out.plan.states.push(state);
        }
    }

    fn weight(&mut self, w: u32) -> u32 {
        if let Some(n) = self.weights.get(&w) {
            return *n;
        }
        let weight = &self.module.weights[w as usize];
        let source = self.sources[w as usize].clone();
        let parts = match &source {
            Source::Joined(parts) => parts.iter().map(|p| self.module.weights[*p as usize].name.to_string()).collect(),
            _ => vec![weight.name.to_string()],
        };
        let n = self.add_weight(&weight.name, weight.ty.clone(), self.layouts.weights[w as usize], source, parts);
        self.weights.insert(w, n);
        n
    }

    fn constant(&mut self, dense: &std::sync::Arc<mlxc_ir::graph::Dense>) -> u32 {
        if let Some(n) = self.constants.get(&**dense) {
            return *n;
        }
        let ty = TensorType::constant(dense.dtype, &dense.shape);
        let name = format!("constant.{}", self.constants.len());
        let n = self.add_weight(&name, ty, Layout::RowMajor, Source::Constant(dense.clone()), Vec::new());
        self.constants.insert((**dense).clone(), n);
        n
    }

    fn add_weight(&mut self, name: &str, ty: TensorType, layout: Layout, source: Source, parts: Vec<String>) -> u32 {
        let shape = plain(&ty);
        let n = self.out.weights.len() as u32;
        self.out.plan.weights.push(plan::Weight {
            name: name.to_string(),
            dtype: ty.dtype,
            bytes: stored_bytes(ty.dtype, layout, &shape),
            shape,
            layout,
            member: format!("weights/{n}"),
            parts,
        });
        self.out.weights.push(StoredWeight { source, ty, layout });
        n
    }

    fn kernel(&mut self, group: &Group, f: &Function) -> u32 {
        let mut kernel = group.built.kernel.clone();
        let ops: Vec<&str> = group.nodes.iter().map(|n| f.nodes[*n as usize].op.name()).collect();
        let comment = ops.join(", ");
        let places = || group.nodes.iter().filter_map(|n| f.nodes[*n as usize].at.as_ref());
        // A cast that nobody wrote has no column; it belongs to an op of its line.
        let is_written = |at: &&mlxc_ir::Location| at.line == 0 || at.column > 0;
        let any = places().any(|at| is_written(&at));
        let mut origin: Vec<String> = Vec::new();
        for at in places().filter(|at| !any || is_written(at)) {
            let at = at.to_string();
            if !origin.contains(&at) {
                origin.push(at);
            }
        }
        let body = body(&kernel);
        if let Some(n) = self.bodies.get(&body) {
            let known = &mut self.out.plan.kernels[*n as usize];
            origin.retain(|o| !known.origin.contains(o));
            known.origin.extend(origin);
            return *n;
        }
        let base = kernel.name.to_string();
        let name = std::iter::once(base.clone())
            .chain((2..).map(|i| format!("{base}_{i}")))
            .find(|n| !self.names.contains(n))
            .expect("there are names enough");
        self.names.insert(name.clone());
        kernel.name = name.as_str().into();
        kernel.comment = Some(comment.clone());
        kernel.origin.clone_from(&origin);
        let n = self.out.kernels.len() as u32;
        self.out.plan.kernels.push(listed(&kernel, group.built.template));
        self.bodies.insert(body, n);
        self.out.kernels.push(kernel);
        n
    }

    fn entry(&mut self, index: usize) -> Result<plan::Entry, Diagnostic> {
        let f = &self.functions[index];
        let mut b = Building {
            symbols: f.symbols.clone(),
            buffers: Vec::new(),
            launches: Vec::new(),
            outputs: BTreeMap::new(),
            result_types: f.results.iter().map(|r| f.ty(r.value).clone()).collect(),
            weight_buffers: BTreeMap::new(),
            state_buffers: BTreeMap::new(),
        };
        for (i, r) in f.results.iter().enumerate() {
            b.outputs.insert(stored_root(f, r.value), i as u32);
        }
        let mut env = HashMap::new();
        let mut inputs = Vec::new();
        for (i, p) in f.params.iter().enumerate() {
            let Some(node) = f.nodes.iter().position(|n| n.op == Op::Param(i as u32)) else { continue };
            let v = ValueId::of(node);
            match p.role {
                Role::Input => {
                    let place = plan::Place::Input(inputs.len() as u32);
                    env.insert(v, b.add(&p.name, place, &p.ty));
                }
                Role::Weight(w) => {
                    env.insert(v, self.weight_buffer(&mut b, w));
                }
                Role::State(s) => {
                    let place = plan::Place::State(s);
                    let n = match b.state_buffers.get(&s) {
                        Some(n) => *n,
                        None => b.add(&p.name, place, &p.ty),
                    };
                    b.state_buffers.insert(s, n);
                    env.insert(v, n);
                }
                Role::Scalar(_) => {}
                Role::Block => {
                    return Err(Diagnostic::new(322, format!("entry `{}` has a block parameter", f.name)));
                }
            }
            if matches!(p.role, Role::Input | Role::Scalar(_)) {
                let port = plan::Port { name: p.name.to_string(), dtype: p.ty.dtype, shape: p.ty.shape.clone() };
                inputs.push(port);
            }
        }
        let mut repetitions = BTreeMap::new();
        self.expand(&mut b, index, env, None, &mut repetitions)?;
        for (root, output) in &b.outputs {
            // What has no elements needs no memory.
            let empty = b.result_types[*output as usize].max_bytes(&f.symbols) == 0;
            if !empty && !b.buffers.iter().any(|x| x.place == plan::Place::Output(*output)) {
                let name = f.value_name(*root);
                return Err(Diagnostic::new(321, format!("no kernel of `{}` stores `{name}`", f.name)));
            }
        }
        let arena = b.place();
        Ok(plan::Entry {
            name: f.name.clone(),
            symbols: f
                .symbols
                .iter()
                .map(|s| plan::Symbol {
                    name: s.name.to_string(),
                    range: s.range,
                    multiple: s.multiple,
                    kind: match s.kind {
                        SymbolKind::Size => plan::SymbolKind::Size,
                        SymbolKind::Scalar => plan::SymbolKind::Scalar,
                    },
                })
                .collect(),
            requires: f.requires.clone(),
            inputs,
            outputs: f
                .results
                .iter()
                .map(|r| {
                    let ty = f.ty(r.value);
                    plan::Port { name: r.name.to_string(), dtype: ty.dtype, shape: ty.shape.clone() }
                })
                .collect(),
            buffers: b.buffers,
            launches: b.launches,
            arena,
        })
    }

    fn weight_buffer(&mut self, b: &mut Building, w: u32) -> u32 {
        if let Some(n) = b.weight_buffers.get(&w) {
            return *n;
        }
        // The plan's number is given when a launch uses it.
        let weight = &self.module.weights[w as usize];
        let n = b.add(&weight.name.clone(), plan::Place::Weight(u32::MAX), &weight.ty.clone());
        b.weight_buffers.insert(w, n);
        n
    }

    /// Appends the launches of one function; `env` has its parameters' buffers. Gives every value's buffer.
    fn expand(
        &mut self,
        b: &mut Building,
        index: usize,
        mut env: HashMap<ValueId, u32>,
        block: Option<(u32, u32)>,
        repetitions: &mut BTreeMap<u32, u32>,
    ) -> Result<HashMap<ValueId, u32>, Diagnostic> {
        let f = &self.functions[index];
        let parts = self.parts;
        for (number, group) in parts[index].groups.iter().enumerate() {
            if group.built.template == CALL {
                let node = *group.nodes.first().expect("a call is a node");
                self.call(b, index, node, &mut env, repetitions)?;
                continue;
            }
            let mut buffers = Vec::new();
            for binding in &group.built.bindings {
                if let Some(ty) = &binding.scratch {
                    let name = format!("{} scratch", f.value_name(binding.value));
                    buffers.push(b.add(&name, plan::Place::Arena { offset: 0 }, ty));
                    continue;
                }
                let n = match (env.get(&binding.value), &f.node(binding.value).op) {
                    (Some(n), _) => *n,
                    (None, Op::Constant(d)) => {
                        let w = self.constant(d);
                        let place = plan::Place::Weight(w);
                        match b.buffers.iter().position(|x| x.place == place) {
                            Some(n) => n as u32,
                            None => b.add(&format!("constant.{w}"), place, f.ty(binding.value)),
                        }
                    }
                    (None, _) => {
                        let output = if block.is_none() { b.outputs.get(&binding.value).copied() } else { None };
                        let place = output.map_or(plan::Place::Arena { offset: 0 }, plan::Place::Output);
                        b.add(&f.value_name(binding.value), place, f.ty(binding.value))
                    }
                };
                env.insert(binding.value, n);
                self.bind_weight(b, n);
                buffers.push(n);
            }
            let kernel = match self.listed.get(&(index, number)) {
                Some(known) => *known,
                None => self.kernel(group, f),
            };
            self.listed.insert((index, number), kernel);
            let k = &self.out.kernels[kernel as usize];
            let scalars = scalars(k, &b.symbols);
            for (phase, p) in k.phases().iter().enumerate() {
                let grid = p.grid.iter().map(|(_, e)| grid_size(k, *e, &scalars)).collect();
                b.launches.push(plan::Launch {
                    kernel,
                    phase: phase as u32,
                    block,
                    grid,
                    buffers: buffers.clone(),
                    scalars: scalars.clone(),
                });
            }
        }
        Ok(env)
    }

    /// Gives a weight's buffer its plan number when it is first used.
    fn bind_weight(&mut self, b: &mut Building, buffer: u32) {
        if b.buffers[buffer as usize].place != plan::Place::Weight(u32::MAX) {
            return;
        }
        let w = *b.weight_buffers.iter().find(|(_, n)| **n == buffer).expect("an unnumbered weight is a module's").0;
        let n = self.weight(w);
        b.buffers[buffer as usize].place = plan::Place::Weight(n);
    }

    fn call(
        &mut self,
        b: &mut Building,
        caller: usize,
        node: u32,
        env: &mut HashMap<ValueId, u32>,
        repetitions: &mut BTreeMap<u32, u32>,
    ) -> Result<(), Diagnostic> {
        let f = &self.functions[caller];
        let n = &f.nodes[node as usize];
        let Op::Call { function, results, .. } = n.op else { unreachable!("called for calls") };
        let g = &self.functions[function as usize];
        let count = repetitions.entry(function).or_insert(0);
        let block = Some((function, *count));
        *count += 1;
        let mut inner = HashMap::new();
        for (i, v) in n.inputs.iter().enumerate() {
            let Some(at) = g.nodes.iter().position(|n| n.op == Op::Param(i as u32)) else { continue };
            if let Some(buffer) = env.get(&home(f, stored_root(f, *v))) {
                inner.insert(ValueId::of(at), *buffer);
            }
        }
        // A result that is the entry's own result is stored where the caller wants it.
        for (i, r) in g.results.iter().enumerate() {
            let v = ValueId { node, index: i as u32 };
            if let Some(output) = b.outputs.get(&v).copied() {
                let root = stored_root(g, r.value);
                let place = plan::Place::Output(output);
                inner.insert(root, b.add(&g.value_name(root), place, g.ty(root)));
            }
        }
        let inner = self.expand(b, function as usize, inner, block, repetitions)?;
        for (i, r) in g.results.iter().enumerate() {
            let root = stored_root(g, r.value);
            let buffer = inner.get(&root).copied().ok_or_else(|| {
                Diagnostic::new(321, format!("no kernel of `{}` stores `{}`", g.name, g.value_name(root)))
            })?;
            debug_assert!((i as u32) < results);
            env.insert(ValueId { node, index: i as u32 }, buffer);
        }
        Ok(())
    }
}

impl Building {
    fn add(&mut self, name: &str, place: plan::Place, ty: &TensorType) -> u32 {
        // A result may be a reshape of the value its memory was made for.
        let ty = match place {
            plan::Place::Output(i) => &self.result_types[i as usize],
            _ => ty,
        };
        self.buffers.push(plan::Buffer {
            name: name.to_string(),
            place,
            dtype: ty.dtype,
            shape: ty.shape.clone(),
            bytes: ty.max_bytes(&self.symbols),
            first: 0,
            last: 0,
            alias: None,
        });
        self.buffers.len() as u32 - 1
    }

    /// Drops buffers no launch uses, orders launches, fixes lifetimes, places the arena.
    fn place(&mut self) -> plan::Arena {
        self.drop_unused();
        let in_arena: Vec<bool> = self.buffers.iter().map(|b| matches!(b.place, plan::Place::Arena { .. })).collect();
        let bytes: Vec<u64> =
            self.buffers.iter().zip(&in_arena).map(|(b, a)| if *a { align(b.bytes) } else { 0 }).collect();
        let accesses = self.accesses();
        let order = memory::order::order(&accesses, &bytes);
        self.launches = order.iter().map(|l| self.launches[*l].clone()).collect();
        let mut first = vec![u32::MAX; self.buffers.len()];
        let mut last = vec![0; self.buffers.len()];
        for (i, l) in self.launches.iter().enumerate() {
            for b in &l.buffers {
                first[*b as usize] = first[*b as usize].min(i as u32);
                last[*b as usize] = last[*b as usize].max(i as u32);
            }
        }
        for (i, b) in self.buffers.iter_mut().enumerate() {
            (b.first, b.last) = (first[i], last[i]);
        }
        let planned: Vec<usize> = (0..self.buffers.len()).filter(|i| in_arena[*i]).collect();
        let intervals: Vec<Interval> = planned
            .iter()
            .map(|i| Interval { first: first[*i].into(), last: last[*i].into(), bytes: bytes[*i] })
            .collect();
        let placement = memory::place(&intervals);
        assert!(memory::check(&intervals, &placement).is_ok(), "a placement keeps live buffers apart");
        for (i, offset) in planned.iter().zip(&placement.offsets) {
            self.buffers[*i].place = plan::Place::Arena { offset: *offset };
        }
        plan::Arena {
            bytes: placement.bytes,
            lower_bound: memory::lower_bound(&intervals),
            naive: intervals.iter().map(|b| b.bytes).sum(),
            worker_bytes: 0,
            strategy: placement.strategy,
        }
    }

    fn drop_unused(&mut self) {
        let used: BTreeSet<u32> = self.launches.iter().flat_map(|l| l.buffers.iter().copied()).collect();
        let mut renumber = BTreeMap::new();
        let mut kept = Vec::new();
        for (i, b) in self.buffers.drain(..).enumerate() {
            if used.contains(&(i as u32)) {
                renumber.insert(i as u32, kept.len() as u32);
                kept.push(b);
            }
        }
        self.buffers = kept;
        for l in &mut self.launches {
            l.buffers.iter_mut().for_each(|b| *b = renumber[b]);
        }
    }

    /// What each launch reads and writes, for ordering: every buffer of the entry counts, of the arena or not.
    fn accesses(&self) -> Vec<memory::order::Launch> {
        let mut written = vec![false; self.buffers.len()];
        self.launches
            .iter()
            .map(|l| {
                let mut out = memory::order::Launch::default();
                for b in &l.buffers {
                    let at = *b as usize;
                    let state = matches!(self.buffers[at].place, plan::Place::State(_));
                    let made = matches!(self.buffers[at].place, plan::Place::Arena { .. } | plan::Place::Output(_));
                    // The first launch that touches a made buffer writes it; states keep their order altogether.
                    if state || made && !std::mem::replace(&mut written[at], true) {
                        out.writes.push(at);
                    } else {
                        out.reads.push(at);
                    }
                }
                out
            })
            .collect()
    }
}

/// A kernel as a plan lists it.
pub(crate) fn listed(kernel: &Kernel, template: &str) -> plan::Kernel {
    plan::Kernel {
        name: kernel.name.to_string(),
        comment: kernel.comment.as_deref().unwrap_or_default().to_string(),
        template: template.to_string(),
        origin: kernel.origin.clone(),
        buffers: kernel.buffers.iter().map(|b| access(b.access)).collect(),
        constant: Vec::new(),
        scalars: (kernel.symbols.len() + kernel.args.len()) as u32,
        phases: kernel
            .phases()
            .iter()
            .map(|p| plan::Phase {
                name: p.name.to_string(),
                symbol: format!("{}__{}", kernel.name, p.name),
                group_bytes: p.memory.iter().map(|g| kernel.group(*g).bytes().div_ceil(64) * 64).sum(),
                lanes: 1,
                linear: false,
            })
            .collect(),
    }
}

fn access(a: Access) -> plan::Access {
    match a {
        Access::Read => plan::Access::Read,
        Access::Write => plan::Access::Write,
        Access::Update | Access::Scratch => plan::Access::Update,
    }
}

fn plain(ty: &TensorType) -> Vec<u64> {
    ty.shape.iter().map(|d| d.as_const().unwrap_or(0).max(0) as u64).collect()
}

fn stored_bytes(dtype: DType, layout: Layout, shape: &[u64]) -> u64 {
    layout.stored_shape(shape).iter().product::<u64>() * dtype.bytes()
}

/// A kernel's text without the names and comments that do not change what it does.
pub fn body(kernel: &Kernel) -> String {
    let mut k = kernel.clone();
    k.name = "kernel".into();
    k.comment = None;
    k.origin.clear();
    for (i, b) in k.buffers.iter_mut().enumerate() {
        b.name = format!("b{i}").into();
    }
    for (i, l) in k.locals.iter_mut().enumerate() {
        l.name = format!("l{i}").into();
    }
    kernel::print(&k)
}

/// Values of a kernel's symbols, then of its index arguments, in terms of the entry's symbols.
pub(crate) fn scalars(k: &Kernel, symbols: &[mlxc_ir::graph::Symbol]) -> Vec<Size> {
    let by_name = |name: &str| {
        let at = symbols.iter().position(|s| &*s.name == name).expect("a kernel's scalars are its function's symbols");
        Size::symbol(SymId(at as u32))
    };
    let sizes = k.symbols.iter().map(|s| by_name(k.var_name(s.var)));
    sizes.chain(k.args.iter().map(|a| by_name(&a.name))).collect()
}

/// A grid extent as a size of the entry.
pub(crate) fn grid_size(k: &Kernel, e: IndexId, scalars: &[Size]) -> Size {
    let go = |e: IndexId| grid_size(k, e, scalars);
    match k.index.get(e) {
        Index::Const(c) => Size::constant(c),
        Index::Var(v) => {
            let symbol = k.symbols.iter().position(|s| s.var == v);
            let argument = || {
                k.args
                    .iter()
                    .position(|a| matches!(a.kind, kernel::ArgKind::Index { var, .. } if var == v))
                    .map(|i| i + k.symbols.len())
            };
            scalars[symbol.or_else(argument).expect("grids depend on symbols and arguments only")].clone()
        }
        Index::Add(a, b) => go(a) + go(b),
        Index::Scale(a, c) => go(a) * Size::constant(c),
        Index::Div(a, c) => go(a).floor_div(c),
        Index::Mod(a, c) => go(a).modulo(c),
        Index::Min(a, b) => match (go(a).as_const(), go(b).as_const()) {
            (Some(c), _) => go(b).at_most(c),
            (_, Some(c)) => go(a).at_most(c),
            _ => unreachable!("templates bound grids by constants"),
        },
        Index::Max(a, b) => match (go(a).as_const(), go(b).as_const()) {
            (Some(c), _) => go(b).at_least(c),
            (_, Some(c)) => go(a).at_least(c),
            _ => unreachable!("templates bound grids by constants"),
        },
        other => unreachable!("no template makes a grid extent of {other:?}"),
    }
}
