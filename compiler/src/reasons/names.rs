//! What a user calls a value, found among kernels: a value's own name, a kernel's, a weight's, a state's, or a name that the
//! value has in another stage of the compilation.

use super::{Computed, Reasons};
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::{Function, Module, ValueId};
use mlxc_package::plan::Plan;
use std::collections::BTreeSet;

/// Where names are looked up.
pub struct Names<'a> {
    /// Kernels with what they compute.
    pub reasons: &'a Reasons,
    /// The plan, which knows what joined weights were made of.
    pub plan: &'a Plan,
    /// Stages that have graphs, by name, the latest first.
    pub stages: Vec<(&'a str, &'a Module)>,
    /// One entry, with the blocks it calls; all unless given.
    pub entry: Option<&'a str>,
}

/// How a name was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that a kernel computes.
    Value,
    /// A kernel.
    Kernel,
    /// A weight, a state or an input that kernels read.
    Parameter,
    /// A value of another stage, found by its place in the model code.
    Place,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// How it was understood.
    pub kind: Kind,
    /// Kernels, as positions in the list of all; none where no kernel is left to compute it.
    pub kernels: Vec<usize>,
}

impl Names<'_> {
    /// Finds a name.
    ///
    /// # Errors
    /// `MLXC0965` for a name that nothing has, with those that are nearest.
    pub fn find(&self, name: &str) -> Result<Named, Diagnostic> {
        let which = |is: &dyn Fn(&Computed) -> bool| -> Vec<usize> {
            let all = self.reasons.kernels.iter().enumerate();
            all.filter(|(_, k)| k.passed.is_none() && self.is_wanted(k) && is(k)).map(|(i, _)| i).collect()
        };
        let found = |kind, kernels: Vec<usize>| Some(Named { kind, kernels }).filter(|n| !n.kernels.is_empty());
        if let Some(n) = found(Kind::Value, which(&|k| k.values.iter().any(|v| v == name)))
            .or_else(|| found(Kind::Kernel, which(&|k| k.kernel == name)))
        {
            return Ok(n);
        }
        let mut readers = BTreeSet::new();
        // A weight may be a part of one that was joined.
        let joined = self.plan.weights.iter().filter(|w| w.parts.iter().any(|p| p == name));
        for known in joined.map(|w| w.name.as_str()).chain([name]) {
            self.readers(None, known, &mut readers);
        }
        if let Some(n) = found(Kind::Parameter, readers.into_iter().collect()) {
            return Ok(n);
        }
        for (_, module) in &self.stages {
            let mut known = false;
            let mut kernels = BTreeSet::new();
            for f in &module.functions {
                for v in called(f, name) {
                    known = true;
                    if let Some(p) = f.param_of(v) {
                        self.readers(None, &p.name, &mut kernels);
                        continue;
                    }
                    let place = f.node(v).at.as_ref().map(ToString::to_string);
                    let name = f.node(v).name.as_deref();
                    let op = format!("{}_", f.node(v).op.name());
                    let at = |k: &Computed, is: &dyn Fn(&str) -> bool| {
                        let each = k.values.iter().zip(&k.places);
                        self.belongs(k, &f.name) && each.into_iter().any(|(v, p)| Some(p) == place.as_ref() && is(v))
                    };
                    let by_name =
                        which(&|k| self.belongs(k, &f.name) && k.values.iter().any(|v| Some(v.as_str()) == name));
                    // A layer may be one place: of its values those of the same op are meant, if they are still there.
                    let by_op = which(&|k| at(k, &|v| v.starts_with(&op)));
                    let by_place = || which(&|k| at(k, &|_| true));
                    let nearest = [by_name, by_op].into_iter().find(|list| !list.is_empty());
                    kernels.extend(nearest.unwrap_or_else(by_place));
                }
            }
            if known
                || module.weights.iter().any(|w| &*w.name == name)
                || module.states.iter().any(|s| &*s.name == name)
            {
                return Ok(Named { kind: Kind::Place, kernels: kernels.into_iter().collect() });
            }
        }
        Err(self.unknown(name))
    }

    /// Kernels that read a parameter, also those of blocks that it is passed to.
    fn readers(&self, function: Option<&str>, name: &str, out: &mut BTreeSet<usize>) {
        let all = self.reasons.kernels.iter().enumerate();
        for (i, k) in all.filter(|(_, k)| function.is_none_or(|f| f == k.function)) {
            match &k.passed {
                None if self.is_wanted(k) && k.inputs.iter().any(|v| v == name) => drop(out.insert(i)),
                None => {}
                Some(passed) => {
                    for (_, inner) in passed.iter().filter(|(outer, _)| outer == name) {
                        self.readers(Some(&k.kernel), inner, out);
                    }
                }
            }
        }
    }

    /// True for a kernel of a function, or of a block that was made of a part of it.
    fn belongs(&self, k: &Computed, function: &str) -> bool {
        let calls = |c: &Computed| c.passed.is_some() && c.function == function && c.kernel == k.function;
        k.function == function || self.reasons.kernels.iter().any(calls)
    }

    fn is_wanted(&self, k: &Computed) -> bool {
        self.entry.is_none_or(|e| self.belongs(k, e))
    }

    fn unknown(&self, name: &str) -> Diagnostic {
        let mut all: BTreeSet<&str> = BTreeSet::new();
        for k in &self.reasons.kernels {
            all.extend(k.values.iter().chain(&k.inputs).map(String::as_str));
            all.insert(&k.kernel);
        }
        all.extend(self.plan.weights.iter().flat_map(|w| w.parts.iter().map(String::as_str)));
        let stages: Vec<String> = self
            .stages
            .iter()
            .flat_map(|(_, m)| &m.functions)
            .flat_map(|f| f.nodes.iter().filter_map(|n| n.name.as_ref()).map(ToString::to_string))
            .collect();
        all.extend(stages.iter().map(String::as_str));
        let mut near: Vec<(usize, &str)> = all
            .into_iter()
            .filter(|n| !n.is_empty())
            .map(|n| (if n.contains(name) { 1 } else { distance(name, n) }, n))
            .collect();
        near.sort_unstable();
        let list: Vec<String> = near.iter().take(5).map(|(_, n)| format!("`{n}`")).collect();
        Diagnostic::new(965, format!("no value, kernel, weight or state is called `{name}`"))
            .expected(format!("a name such as {}", list.join(", ")))
            .found(format!("`{name}`"))
            .note("names of values are those of any stage of `dump`")
    }
}

/// Values that a function calls so, or gives as a result of that name; of one that only says where elements are found, the
/// value that has them.
fn called(f: &Function, name: &str) -> Vec<ValueId> {
    let named = (0..f.nodes.len()).map(ValueId::of).filter(|v| f.value_name(*v) == name);
    let results = f.results.iter().filter(|r| &*r.name == name).map(|r| r.value);
    let behind = |mut v: ValueId| {
        while f.node(v).op.is_view() && !f.node(v).inputs.is_empty() {
            v = f.node(v).inputs[0];
        }
        v
    };
    named.chain(results).map(behind).collect()
}

/// Insertions, deletions and exchanges between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (k, y) in b.iter().enumerate() {
            let exchanged = corner + usize::from(x != *y);
            corner = row[k + 1];
            row[k + 1] = exchanged.min(corner + 1).min(row[k] + 1);
        }
    }
    row[b.len()]
}
