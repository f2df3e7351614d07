//! Loads, stores and atomics. Vectors are accessed through a pointer to the vector where the alignment is proved,
//! and to the packed vector elsewhere.

use mlxc_ir::kernel::{ExprId, FoldOp, Memory, Place, Shape, Type};

use crate::legalise::Storage;
use crate::shader::{Indices, Ix, PRODUCT, Text, component};

use super::{Writer, type_name};

impl Writer<'_> {
    fn storage(&self, memory: Memory) -> Storage {
        *self.phase.storage(memory).expect("invariant: `words` finds every access")
    }

    /// The row-major position of an access's first element.
    fn element_position(&mut self, place: &Place) -> Ix {
        let mut position = Ix::Const(0);
        for (axis, i) in place.at.iter().enumerate() {
            let extent = self.extent(place.memory, axis);
            let i = self.index(*i);
            position = position.times(extent).plus(i);
        }
        position
    }

    fn extent(&mut self, memory: Memory, axis: usize) -> Ix {
        match memory {
            Memory::Buffer(b) => self.index(self.k.buffer(b).shape[axis]),
            Memory::Group(g) => Ix::Const(i64::from(self.k.group(g).shape[axis])),
        }
    }

    /// A pointer to an access's first element, and elements from one row to the next.
    pub(super) fn pointer_and_stride(&mut self, place: &Place) -> (String, String) {
        let name = self.names.memory(self.k, place.memory);
        let pointer = pointer(&name, self.element_position(place));
        let stride = self.extent(place.memory, place.at.len() - 1).text();
        (pointer, stride)
    }

    /// The vector at a place, as what may be read or assigned to.
    fn vector(&mut self, place: &Place, ty: Type) -> String {
        let name = self.names.memory(self.k, place.memory);
        let whole = u64::from(self.legal.alignment(place)) * 8 >= ty.bits();
        let packed = if whole { "" } else { "packed_" };
        let space = self.space(place.memory);
        let at = self.element_position(place);
        let at = match at {
            Ix::Const(0) => name,
            at => format!("({})", pointer(&name, at)),
        };
        format!("*({space} {packed}{}*){at}", type_name(ty))
    }

    /// A load of elements.
    pub(super) fn load(&mut self, place: &Place, ty: Type) -> Text {
        let name = self.names.memory(self.k, place.memory);
        if self.storage(place.memory).atomic {
            let at = self.element_position(place);
            if let Shape::One = place.shape {
                return Text::primary(format!("atomic_load_explicit({}, memory_order_relaxed)", element(&name, at)));
            }
            let first = Ix::name(self.bind("i", "uint", at.text()));
            let one = |l| element(&name, first.clone().plus(Ix::Const(l)));
            let all =
                (0..i64::from(ty.lanes())).map(|l| format!("atomic_load_explicit({}, memory_order_relaxed)", one(l)));
            return Text::primary(format!("{}({})", type_name(ty), all.collect::<Vec<_>>().join(", ")));
        }
        if ty.lanes() == 1 {
            let at = self.element_position(place);
            return Text::primary(format!("{name}[{}]", at.text()));
        }
        let vector = self.vector(place, ty);
        match vector.contains("packed_") {
            true => Text::primary(format!("{}({vector})", type_name(ty))),
            false => Text::new(vector, PRODUCT),
        }
    }

    /// A store of elements.
    pub(super) fn store(&mut self, place: &Place, value: ExprId) {
        let ty = self.k.expr(value).ty;
        if ty.is_tile() {
            return self.store_tile(place, value);
        }
        let text = self.expr(value).text;
        let name = self.names.memory(self.k, place.memory);
        if self.storage(place.memory).atomic {
            let value = self.bind("v", &type_name(ty), text);
            let at = self.element_position(place);
            let first = if ty.lanes() == 1 { at } else { Ix::name(self.bind("i", "uint", at.text())) };
            for l in 0..i64::from(ty.lanes()) {
                let one = if ty.lanes() == 1 { value.clone() } else { component(&value, Ix::Const(l)) };
                let at = element(&name, first.clone().plus(Ix::Const(l)));
                self.line(&format!("atomic_store_explicit({at}, {one}, memory_order_relaxed);"));
            }
            return;
        }
        if ty.lanes() == 1 {
            let at = self.element_position(place).text();
            return self.line(&format!("{name}[{at}] = {text};"));
        }
        let vector = self.vector(place, ty);
        let text = if vector.contains("packed_") { format!("packed_{}({text})", type_name(ty)) } else { text };
        self.line(&format!("{vector} = {text};"));
    }

    /// A relaxed atomic without a result.
    pub(super) fn atomic(&mut self, op: FoldOp, place: &Place, value: ExprId) {
        let value = self.expr(value).text;
        let name = self.names.memory(self.k, place.memory);
        let at = element(&name, self.element_position(place));
        self.line(&format!("atomic_fetch_{}_explicit({at}, {value}, memory_order_relaxed);", op.name()));
    }
}

fn element(name: &str, at: Ix) -> String {
    format!("&{name}[{}]", at.text())
}

fn pointer(name: &str, at: Ix) -> String {
    match at {
        Ix::Const(0) => name.to_string(),
        at => format!("{name} + {}", at.at(PRODUCT)),
    }
}
