//! Names that a shading language accepts: the kernel's own, with a number where one is taken or means something to
//! the language.

use std::collections::{HashMap, HashSet};

use mlxc_ir::kernel::{Kernel, LocalId, Memory, VarId};

/// The names of one module.
pub(crate) struct Names {
    taken: HashSet<String>,
    scalars: &'static str,
    vars: HashMap<VarId, String>,
    locals: HashMap<LocalId, String>,
    arguments: HashMap<usize, String>,
    memory: HashMap<Memory, String>,
}

impl Names {
    /// Names beside those that are reserved, in the language or by the writer. Fields of scalars are read from
    /// `scalars`.
    pub(crate) fn new<'r>(reserved: impl IntoIterator<Item = &'r str>, scalars: &'static str) -> Self {
        let taken = reserved.into_iter().chain([scalars]).map(str::to_string).collect();
        Names {
            taken,
            scalars,
            vars: HashMap::new(),
            locals: HashMap::new(),
            arguments: HashMap::new(),
            memory: HashMap::new(),
        }
    }

    /// A name that nothing else has.
    pub(crate) fn fresh(&mut self, base: &str) -> String {
        // Names that begin with it are reserved, or are none.
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
    pub(crate) fn scalar(&mut self, var: VarId, name: &str) -> String {
        let field = self.fresh(name);
        self.vars.insert(var, format!("{}.{field}", self.scalars));
        field
    }

    pub(crate) fn argument(&mut self, position: usize, name: &str) -> String {
        let field = self.fresh(name);
        self.arguments.insert(position, format!("{}.{field}", self.scalars));
        field
    }

    /// How an argument is read.
    pub(crate) fn read_argument(&self, position: usize) -> String {
        self.arguments.get(&position).cloned().unwrap_or_default()
    }

    pub(crate) fn var(&mut self, var: VarId, name: &str) -> String {
        if let Some(known) = self.vars.get(&var) {
            return known.clone();
        }
        let fresh = self.fresh(name);
        self.vars.insert(var, fresh.clone());
        fresh
    }

    pub(crate) fn local(&mut self, kernel: &Kernel, local: LocalId) -> String {
        if let Some(known) = self.locals.get(&local) {
            return known.clone();
        }
        let fresh = self.fresh(&kernel.local(local).name);
        self.locals.insert(local, fresh.clone());
        fresh
    }

    pub(crate) fn memory(&mut self, kernel: &Kernel, memory: Memory) -> String {
        if let Some(known) = self.memory.get(&memory) {
            return known.clone();
        }
        let fresh = self.fresh(kernel.memory_name(memory));
        self.memory.insert(memory, fresh.clone());
        fresh
    }
}
