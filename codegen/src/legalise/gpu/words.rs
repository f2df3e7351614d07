//! How a phase's memory is laid out in a target's terms: as elements, or as 32-bit words where the target does not
//! store the element type; single or in vectors; with atomics or without.

use mlxc_ir::DType;
use mlxc_ir::kernel::{ExprId, ExprKind, Facts, Kernel, Memory, Phase, Place, Shape, Stmt};
use mlxc_ir::profile::TargetProfile;

use super::narrow::is_narrow;
use crate::legalise::visit::{Node, visit};

/// How one buffer or group array is accessed in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The buffer or group array.
    pub memory: Memory,
    /// True if it is 32-bit words with several elements each, the first in the lowest bits.
    pub words: bool,
    /// Elements (or words) that every access takes whole and aligned: 1, 2 or 4.
    pub unit: u8,
    /// True if every access is atomic.
    pub atomic: bool,
    /// True if the phase stores to it.
    pub stored: bool,
}

/// A store of a narrow type is plain where it covers whole words; else other lanes may own the rest of a word.
pub(super) fn covers_words(kernel: &Kernel, facts: &Facts, place: &Place) -> bool {
    let bytes = kernel.place_type(place).bits() / 8;
    bytes.is_multiple_of(4) && facts.alignment(place) >= 4
}

/// The narrow load an expression is the carrier of.
pub(super) fn word_load(kernel: &Kernel, id: ExprId) -> Option<&Place> {
    let ExprKind::Cast(a) = kernel.expr(id).kind else { return None };
    let load = match kernel.expr(a).kind {
        ExprKind::Bits(load) => load,
        _ => a,
    };
    match &kernel.expr(load).kind {
        ExprKind::Load(place, None) => Some(place),
        _ => None,
    }
}

/// The carrier behind a value that is stored as a narrow type.
pub(super) fn word_value(kernel: &Kernel, value: ExprId) -> Option<ExprId> {
    let integer = match kernel.expr(value).kind {
        ExprKind::Bits(a) => a,
        _ => value,
    };
    match kernel.expr(integer).kind {
        ExprKind::Cast(carrier) => Some(carrier),
        _ => None,
    }
}

/// The storage of everything a phase accesses, in the order of [`Kernel::buffers`] and then of its group arrays.
pub(super) fn storage(kernel: &Kernel, facts: &Facts, profile: &TargetProfile, phase: &Phase) -> Vec<Storage> {
    let mut found = Found { kernel, facts, profile, seen: Vec::new() };
    visit(kernel, &phase.body, &mut |node| match node {
        Node::Statement(Stmt::Store { place, .. } | Stmt::Atomic(_, place, _)) => found.access(place, true),
        Node::Statement(_) => {}
        Node::Expression(e) => {
            if let ExprKind::Load(place, _) | ExprKind::LoadTile { place, .. } = &kernel.expr(e).kind {
                found.access(place, false);
            }
        }
    });
    let mut seen = found.seen;
    seen.sort_by_key(|s| match s.memory {
        Memory::Buffer(b) => (0, b.index()),
        Memory::Group(g) => (1, g.index()),
    });
    for s in &mut seen {
        if s.atomic {
            s.unit = 1;
        }
    }
    seen
}

struct Found<'k> {
    kernel: &'k Kernel,
    facts: &'k Facts,
    profile: &'k TargetProfile,
    seen: Vec<Storage>,
}

impl Found<'_> {
    fn access(&mut self, place: &Place, stored: bool) {
        let k = self.kernel;
        let dtype = k.memory_dtype(place.memory);
        let words = is_narrow(self.profile, dtype);
        let declared = match place.memory {
            Memory::Buffer(b) => k.buffer(b).atomic,
            Memory::Group(g) => k.group(g).atomic,
        };
        let unit = self.unit(place, words, dtype);
        let atomic = declared || words && stored && !covers_words(k, self.facts, place);
        match self.seen.iter_mut().find(|s| s.memory == place.memory) {
            Some(s) => {
                s.unit = s.unit.min(unit);
                s.atomic |= atomic;
                s.stored |= stored;
            }
            None => self.seen.push(Storage { memory: place.memory, words, unit, atomic, stored }),
        }
    }

    /// The largest unit of which the access is an aligned multiple.
    fn unit(&self, place: &Place, words: bool, dtype: DType) -> u8 {
        if !matches!(place.shape, Shape::Vector(_)) || dtype.bytes() > 4 {
            return 1;
        }
        let element = if words { 4 } else { dtype.bytes() };
        let bytes = self.kernel.place_type(place).bits() / 8;
        let aligned = u64::from(self.facts.alignment(place));
        [4, 2].into_iter().find(|u| bytes.is_multiple_of(u * element) && aligned >= u * element).unwrap_or(1) as u8
    }
}
