//! Equality saturation: every way of writing a function that the rules know, then the cheapest one.
//!
//! Works on one function at a time and knows nothing of kernels: fusion comes after, where real consumers are known. The
//! rules are in [`rules`], by group; a rule above the numerics level asked for is not loaded. Steps are counted, never
//! time, so the same function gives the same result everywhere.

pub mod cost;
pub mod extract;
pub mod graph;
mod rebuild;
pub mod rule;
pub mod rules;

use crate::storage::constant_params;
use egg::Id;
use graph::{Built, ENode, Graph, Head, build};
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::{Function, Module, Role};
use rule::{Group, Matches, Rule, Term};
use std::collections::BTreeMap;

/// How much rounding may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Numerics {
    /// Every op rounds to its dtype.
    Exact,
    /// Precision inside a composite may exceed the stated dtype and never falls below it.
    #[default]
    Strict,
    /// Rules that may lose precision are loaded too.
    Fast,
}

/// What saturation may do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rules above this level stay out.
    pub numerics: Numerics,
    /// Most e-nodes; reaching it stops rewriting with a warning.
    pub nodes: usize,
    /// Most rounds of all rules; reaching it stops rewriting with a warning.
    pub iterations: usize,
    /// Groups that are left out.
    pub without: Vec<Group>,
    /// For each parameter, whether it is a weight wherever the function is called; empty: weights and block parameters.
    pub weights: Vec<bool>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            numerics: Numerics::default(),
            nodes: 20_000,
            iterations: 12,
            without: Vec::new(),
            weights: Vec::new(),
        }
    }
}

/// What saturation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rules that found something new: group, name, how often.
    pub fired: Vec<(Group, &'static str, usize)>,
    /// E-nodes at the end.
    pub nodes: usize,
    /// Classes at the end.
    pub classes: usize,
    /// Rounds of all rules.
    pub iterations: usize,
    /// Model cost of the function as it came, in picoseconds.
    pub cost_before: u64,
    /// Model cost of the function as it left.
    pub cost_after: u64,
    /// `MLXC0331` where a cap was met.
    pub warnings: Vec<Diagnostic>,
}

impl Report {
    /// How often a rule fired.
    pub fn count(&self, rule: &str) -> usize {
        self.fired.iter().filter(|(_, name, _)| *name == rule).map(|(_, _, n)| n).sum()
    }
}

/// Rewrites a function into the cheapest equal one the rules find.
///
/// # Errors
/// `MLXC0330` where rules contradict each other, `MLXC0332` where no choice of nodes can be put in an order.
pub fn saturate(f: &Function, options: &Options) -> Result<(Function, Report), Diagnostic> {
    let all = rules::all();
    let chosen: Vec<&Rule> =
        all.iter().filter(|r| r.level <= options.numerics && !options.without.contains(&r.group)).collect();
    saturate_with(f, options, &chosen)
}

/// Rewrites every function of a module; gives one report for each.
///
/// # Errors
/// As [`saturate`].
pub fn saturate_module(module: &Module, options: &Options) -> Result<(Module, Vec<Report>), Diagnostic> {
    let weights = constant_params(module);
    let mut out = module.clone();
    let mut reports = Vec::new();
    for (f, weights) in out.functions.iter_mut().zip(weights) {
        let (g, report) = saturate(f, &Options { weights, ..options.clone() })?;
        *f = g;
        reports.push(report);
    }
    Ok((out, reports))
}

fn saturate_with(f: &Function, options: &Options, rules: &[&Rule]) -> Result<(Function, Report), Diagnostic> {
    let weights = match options.weights.len() == f.params.len() {
        true => options.weights.clone(),
        false => f.params.iter().map(|p| matches!(p.role, Role::Weight(_) | Role::Block)).collect(),
    };
    let Built { mut graph, values } = build(f, weights);
    let mut report = Report::default();
    let mut fired: BTreeMap<usize, usize> = BTreeMap::new();
    let mut capped = None;
    loop {
        if report.iterations == options.iterations {
            capped = Some(format!("{} rounds", options.iterations));
            break;
        }
        report.iterations += 1;
        let mut found: Vec<(usize, Id, Term)> = Vec::new();
        for (i, rule) in rules.iter().enumerate() {
            let mut matches = Matches::default();
            (rule.search)(&graph, &mut matches);
            found.extend(matches.found.into_iter().map(|(id, term)| (i, id, term)));
        }
        let mut changed = false;
        for (i, id, term) in found {
            if graph.total_number_of_nodes() >= options.nodes {
                capped = Some(format!("{} nodes", options.nodes));
                break;
            }
            if apply(&mut graph, id, &term) {
                changed = true;
                *fired.entry(i).or_default() += 1;
            }
        }
        graph.rebuild();
        if let Some(d) = graph.analysis.conflict.take() {
            return Err(d);
        }
        if !changed || capped.is_some() {
            break;
        }
    }
    report.fired = fired.into_iter().map(|(i, n)| (rules[i].group, rules[i].name, n)).collect();
    (report.nodes, report.classes) = (graph.total_number_of_nodes(), graph.number_of_classes());
    tracing::debug!(
        "saturation of `{}`: {} rounds, {} nodes, {} classes",
        f.name,
        report.iterations,
        report.nodes,
        report.classes
    );
    if let Some(cap) = capped {
        let d = Diagnostic::new(331, format!("rewriting `{}` stopped early", f.name))
            .expected("saturation")
            .found(format!("the limit of {cap}"))
            .note("the result is right, and may be slower than it could be");
        report.warnings.push(d);
    }
    let out = rebuild::rebuild(&graph, &values, &mut report)?;
    Ok((out, report))
}

/// Adds a term and says that it equals a class; true if that was news.
fn apply(g: &mut Graph<'_>, id: Id, term: &Term) -> bool {
    let Some(new) = instantiate(g, term) else { return false };
    let id = g.find(id);
    if g.find(new) == id {
        return false;
    }
    g.union(id, new);
    true
}

/// The class of a term; `None` if its types do not fit, which only a wrong rule writes.
fn instantiate(g: &mut Graph<'_>, term: &Term) -> Option<Id> {
    match term {
        Term::Class(id) => Some(g.find(*id)),
        Term::Op(op, operands) => {
            let children: Option<_> = operands.iter().map(|t| instantiate(g, t)).collect();
            Some(g.add(ENode { head: Head::Op(op.clone()), children: children? }))
        }
    }
}
