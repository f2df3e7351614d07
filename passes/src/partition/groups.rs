//! The groups of a search, and which of them computes or stores a node.

use super::Group;
use std::collections::{BTreeMap, BTreeSet};

/// Groups by number.
#[derive(Default)]
pub(super) struct Groups {
    all: BTreeMap<u32, Group>,
    /// Groups that store a result of a node.
    storing: BTreeMap<u32, BTreeSet<u32>>,
    /// Groups that compute a node.
    computing: BTreeMap<u32, BTreeSet<u32>>,
}

impl Groups {
    /// Adds a group, or puts one in the place of another.
    pub fn insert(&mut self, id: u32, group: Group) {
        self.remove(id);
        for v in &group.outputs {
            self.storing.entry(v.node).or_default().insert(id);
        }
        for n in &group.nodes {
            self.computing.entry(*n).or_default().insert(id);
        }
        self.all.insert(id, group);
    }

    /// Takes a group out.
    pub fn remove(&mut self, id: u32) -> Option<Group> {
        let group = self.all.remove(&id)?;
        let drop = |of: &mut BTreeMap<u32, BTreeSet<u32>>, node: u32| {
            if let Some(ids) = of.get_mut(&node) {
                ids.remove(&id);
            }
        };
        group.outputs.iter().for_each(|v| drop(&mut self.storing, v.node));
        group.nodes.iter().for_each(|n| drop(&mut self.computing, *n));
        Some(group)
    }

    /// Numbers, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.all.keys().copied()
    }

    /// Numbers and groups, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        self.all.iter().map(|(id, g)| (*id, g))
    }

    /// Groups that store a result of a node.
    pub fn storing(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        self.storing.get(&node).into_iter().flatten().copied()
    }

    /// Groups that compute a node.
    pub fn computing(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        self.computing.get(&node).into_iter().flatten().copied()
    }
}

impl std::ops::Index<u32> for Groups {
    type Output = Group;

    fn index(&self, id: u32) -> &Group {
        &self.all[&id]
    }
}
