//! Matrix tiles, as instructions of AMX on tile registers that the writer names.
//!
//! A tile has its register until its block ends. Registers have all rows and bytes, so a phase is configured once.

use inkwell::values::IntValue;
use mlxc_ir::kernel::{ExprId, ExprKind, IndexId, LocalId, Memory, Place, Stmt};

use super::phase::Writer;
use super::values::Value;
use crate::legalise::tile::{ROW_BYTES, ROWS, count};

/// Registers of tiles in scope.
#[derive(Default)]
pub(super) struct Tiles {
    /// First register of each variable.
    first: std::collections::BTreeMap<LocalId, u32>,
    /// Registers in use.
    pub(super) used: u32,
    /// True once a tile was written.
    any: bool,
}

impl<'c> Writer<'_, 'c> {
    /// Writes a statement on a tile; false for any other.
    pub(super) fn tile(&mut self, stmt: &Stmt) -> bool {
        match stmt {
            Stmt::Let(local, value) if self.is_tile(*value) => {
                let to = self.name_tiles(*local);
                self.set_tile(to, *value);
            }
            Stmt::Declare(local, value) if self.kernel().local(*local).ty.is_tile() => {
                let to = self.name_tiles(*local);
                for r in 0..count(self.kernel(), *local) {
                    value.iter().for_each(|v| self.set_tile(to + r, *v));
                }
            }
            Stmt::Set(local, at, value) if self.is_tile(*value) => {
                let to = self.tile_register(*local, at);
                self.set_tile(to, *value);
            }
            Stmt::Store { place, value, .. } if self.is_tile(*value) => {
                let from = self.tile_of(*value);
                self.move_tile("llvm.x86.tilestored64", from, place);
            }
            _ => return false,
        }
        self.tiles.any = true;
        true
    }

    fn is_tile(&self, value: ExprId) -> bool {
        self.kernel().expr(value).ty.is_tile()
    }

    /// Registers for a variable; the first one.
    fn name_tiles(&mut self, local: LocalId) -> u32 {
        let first = self.tiles.used;
        self.tiles.first.insert(local, first);
        self.tiles.used += count(self.kernel(), local);
        first
    }

    fn tile_register(&mut self, local: LocalId, at: &[IndexId]) -> u32 {
        let first = *self.tiles.first.get(&local).expect("invariant: the verifier found the tile declared");
        first + self.register_number(local, at) as u32
    }

    /// The register of a tile that stands in one.
    fn tile_of(&mut self, value: ExprId) -> u32 {
        match self.kernel().expr(value).kind.clone() {
            ExprKind::Get(local, at) => self.tile_register(local, &at),
            other => panic!("invariant: legalise leaves no {other:?} of tiles on CPUs"),
        }
    }

    fn set_tile(&mut self, to: u32, value: ExprId) {
        match self.kernel().expr(value).kind.clone() {
            ExprKind::LoadTile { place, .. } => self.move_tile("llvm.x86.tileloadd64", to, &place),
            ExprKind::Splat(_) => self.emit.intrinsic("llvm.x86.tilezero", &[], &[self.number(to).into()]),
            ExprKind::Mma(a, b, _) => {
                let (a, b) = (self.tile_of(a), self.tile_of(b));
                let registers = [to, a, b].map(|r| Value::from(self.number(r)));
                self.emit.intrinsic("llvm.x86.tdpbf16ps", &[], &registers);
            }
            other => panic!("invariant: legalise leaves no {other:?} of tiles on CPUs"),
        }
    }

    /// Loads or stores a register, row by row.
    fn move_tile(&mut self, intrinsic: &str, register: u32, place: &Place) {
        let address = self.address(place, true);
        let stride = self.row_bytes(place.memory);
        self.emit.intrinsic(intrinsic, &[], &[self.number(register).into(), address.into(), stride.into()]);
    }

    /// Bytes from one row of an array to the next.
    fn row_bytes(&mut self, memory: Memory) -> IntValue<'c> {
        let bytes = self.kernel().memory_dtype(memory).bytes();
        let row = self.row_stride(memory);
        self.emit.multiply(row, self.emit.index(bytes as i64))
    }

    fn number(&self, register: u32) -> IntValue<'c> {
        self.emit.context.i8_type().const_int(register.into(), false)
    }

    /// Configures the registers at the start of a function that uses tiles, where the builder stands.
    pub(super) fn configure_tiles(&self) {
        if !self.tiles.any {
            return;
        }
        // Palette 1; 16-bit bytes of a row from byte 16 on, rows from byte 48 on (Intel SDM, volume 2A, LDTILECFG).
        let mut bytes = [0u8; 64];
        bytes[0] = 1;
        for register in 0..8 {
            bytes[16 + 2 * register] = ROW_BYTES as u8;
            bytes[48 + register] = ROWS;
        }
        let words: Vec<Value<'c>> = bytes
            .chunks_exact(8)
            .map(|w| {
                let word = u64::from_le_bytes(w.try_into().expect("invariant: chunks have 8 bytes"));
                self.emit.i64().const_int(word, false).into()
            })
            .collect();
        let kind = self.emit.i64().vec_type(8).into();
        let slot = self.emit.slot(self.slots, kind);
        self.emit.builder.position_at_end(self.slots);
        self.emit.builder_store(slot, self.emit.gather(&words));
        self.emit.intrinsic("llvm.x86.ldtilecfg", &[], &[slot.into()]);
    }

    /// Gives the registers back, so that switching threads saves none.
    pub(super) fn release_tiles(&self) {
        if self.tiles.any {
            self.emit.intrinsic("llvm.x86.tilerelease", &[], &[]);
        }
    }
}
