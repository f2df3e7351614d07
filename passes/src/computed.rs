//! What each kernel computes, by the names of values: what a report finds kernels by.

use crate::lower::emit::home;
use crate::partition::{Group, Partition, stored_root};
use mlxc_ir::Location;
use mlxc_ir::graph::{Function, Op, ValueId};
use std::collections::{BTreeMap, HashMap};

/// What one kernel, or one call of a block, computes of a function.
#[derive(Clone, Debug)]
pub struct Computed {
    /// The function.
    pub function: String,
    /// What computes it.
    pub by: Computer,
    /// Names of the values, with the place each came from.
    pub values: Vec<(String, Option<Location>)>,
    /// Names of those that others read or the caller gets.
    pub outputs: Vec<String>,
    /// Names of the values and parameters it reads or updates.
    pub inputs: Vec<String>,
    /// Positions, in the same list, of what computes those values.
    pub reads: Vec<u32>,
}

/// A kernel or a call.
#[derive(Clone, Debug)]
pub enum Computer {
    /// A kernel of the plan.
    Kernel(u32),
    /// A call of a block: its name, and the name of each of its parameters behind that of what is passed for it.
    Block(String, Vec<(String, String)>),
}

/// Lists what each group computes; `kernels` has the plan's numbers by function and group. Blocks that are never called
/// have no kernels and are left out.
pub(crate) fn computed(
    functions: &[Function],
    parts: &[Partition],
    kernels: &BTreeMap<(usize, usize), u32>,
) -> Vec<Computed> {
    let mut out: Vec<Computed> = Vec::new();
    for (index, (f, part)) in functions.iter().zip(parts).enumerate() {
        let mut makers: HashMap<ValueId, u32> = HashMap::new();
        for (number, group) in part.groups.iter().enumerate() {
            let kernel = kernels.get(&(index, number)).copied();
            let Some((by, read, made)) = computer(functions, f, group, kernel) else { continue };
            let mut reads: Vec<u32> = read.iter().filter_map(|v| makers.get(v).copied()).collect();
            reads.sort_unstable();
            reads.dedup();
            let name = |v: &ValueId| f.value_name(*v);
            let mut outputs: Vec<String> = made.iter().map(name).collect();
            outputs.dedup();
            for v in made {
                // A version of a state lies in the state's memory, and is read as that.
                for at in [v, stored_root(f, v), home(f, v)] {
                    makers.insert(at, out.len() as u32);
                }
            }
            let place = |n: &u32| (name(&ValueId::of(*n as usize)), f.nodes[*n as usize].at.clone());
            out.push(Computed {
                function: f.name.clone(),
                by,
                values: group.nodes.iter().map(place).collect(),
                outputs,
                inputs: read.iter().map(name).collect(),
                reads,
            });
        }
    }
    out
}

/// What a group is computed by, what that reads and what it makes.
fn computer(
    functions: &[Function],
    f: &Function,
    group: &Group,
    kernel: Option<u32>,
) -> Option<(Computer, Vec<ValueId>, Vec<ValueId>)> {
    if let Some(kernel) = kernel {
        let bound = group.built.bindings.iter().filter(|b| b.scratch.is_none()).map(|b| b.value);
        let read = bound.filter(|v| !group.outputs.contains(v)).collect();
        return Some((Computer::Kernel(kernel), read, group.outputs.clone()));
    }
    let number = *group.nodes.first()?;
    let node = &f.nodes[number as usize];
    let Op::Call { function, .. } = node.op else { return None };
    let read: Vec<ValueId> = node.inputs.iter().map(|v| home(f, stored_root(f, *v))).collect();
    let g = &functions[function as usize];
    let passed = read.iter().map(|v| f.value_name(*v)).zip(g.params.iter().map(|p| p.name.to_string())).collect();
    let made = (0..node.types.len() as u32).map(|index| ValueId { node: number, index }).collect();
    Some((Computer::Block(g.name.clone(), passed), read, made))
}
