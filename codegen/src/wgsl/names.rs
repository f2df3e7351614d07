//! Names that WGSL accepts: the kernel's own, with a number where one is taken or means something to the language.

use std::collections::{HashMap, HashSet};

use mlxc_ir::kernel::{Kernel, LocalId, Memory, VarId};

/// Called by the writer, and newer than the list of built-in functions.
const CALLED: &[&str] = &[
    "workgroupBarrier",
    "storageBarrier",
    "workgroupUniformLoad",
    "subgroupAdd",
    "subgroupMin",
    "subgroupMax",
    "subgroupAnd",
    "subgroupOr",
    "subgroupXor",
    "subgroupAny",
    "subgroupAll",
    "subgroupBroadcast",
    "subgroupShuffleXor",
    "i64",
    "u64",
    "Scalars",
];

/// The names of one module.
pub(super) struct Names {
    taken: HashSet<String>,
    vars: HashMap<VarId, String>,
    locals: HashMap<LocalId, String>,
    arguments: HashMap<usize, String>,
    memory: HashMap<Memory, String>,
}

impl Names {
    pub(super) fn new(entry: &str) -> Self {
        let own = super::BUILTINS.iter().map(|(name, ..)| *name).chain([super::SCALARS, entry]);
        let words = naga::keywords::wgsl::RESERVED
            .iter()
            .chain(naga::keywords::wgsl::BUILTIN_IDENTIFIERS)
            .chain(CALLED)
            .copied()
            .chain(super::memory::Helper::ALL.iter().map(|h| h.name()));
        let taken = words.chain(own).map(str::to_string).collect();
        Names { taken, vars: HashMap::new(), locals: HashMap::new(), arguments: HashMap::new(), memory: HashMap::new() }
    }

    /// A name that nothing else has.
    pub(super) fn fresh(&mut self, base: &str) -> String {
        // WGSL has no names that are `_` or begin with two of them.
        let base = if base.starts_with('_') { format!("n{base}") } else { base.to_string() };
        let mut name = base.clone();
        let mut n = 1;
        while !self.taken.insert(name.clone()) {
            n += 1;
            name = format!("{base}_{n}");
        }
        name
    }

    /// The name of a scalar's field, and how an index of it is read.
    pub(super) fn scalar(&mut self, var: VarId, name: &str) -> String {
        let field = self.fresh(name);
        self.vars.insert(var, format!("{}.{field}", super::SCALARS));
        field
    }

    pub(super) fn argument(&mut self, position: usize, name: &str) -> String {
        let field = self.fresh(name);
        self.arguments.insert(position, format!("{}.{field}", super::SCALARS));
        field
    }

    /// How an argument is read.
    pub(super) fn read_argument(&self, position: usize) -> String {
        self.arguments.get(&position).cloned().unwrap_or_default()
    }

    pub(super) fn var(&mut self, var: VarId, name: &str) -> String {
        if let Some(known) = self.vars.get(&var) {
            return known.clone();
        }
        let fresh = self.fresh(name);
        self.vars.insert(var, fresh.clone());
        fresh
    }

    pub(super) fn local(&mut self, kernel: &Kernel, local: LocalId) -> String {
        if let Some(known) = self.locals.get(&local) {
            return known.clone();
        }
        let fresh = self.fresh(&kernel.local(local).name);
        self.locals.insert(local, fresh.clone());
        fresh
    }

    pub(super) fn memory(&mut self, kernel: &Kernel, memory: Memory) -> String {
        if let Some(known) = self.memory.get(&memory) {
            return known.clone();
        }
        let fresh = self.fresh(kernel.memory_name(memory));
        self.memory.insert(memory, fresh.clone());
        fresh
    }
}
