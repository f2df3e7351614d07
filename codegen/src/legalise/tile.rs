//! Matrix tiles on CPUs: only what a unit with a few named tile registers does, a statement an instruction.

use mlxc_ir::kernel::{
    ExprId, ExprKind, IndexId, Kernel, LocalId, LocalKind, Place, Shape, Stmt, TileOrder, TileRole, Type,
};
use mlxc_ir::profile::TargetProfile;

/// Tile registers of AMX (Intel SDM, volume 1, chapter 18).
const REGISTERS: u32 = 8;
/// Rows and bytes of a row that every tile has: all of a register, so that one configuration serves.
pub(crate) const ROWS: u8 = 16;
pub(crate) const ROW_BYTES: u64 = 64;

/// What is wrong with a statement that declares, assigns or stores a tile; `None` if it is an instruction of the target.
pub(super) fn wrong(kernel: &Kernel, profile: &TargetProfile, stmt: &Stmt) -> Option<String> {
    let value = match stmt {
        Stmt::Let(_, e) | Stmt::Declare(_, Some(e)) | Stmt::Set(_, _, e) | Stmt::Store { value: e, .. } => *e,
        _ => return None,
    };
    let ty = kernel.expr(value).ty;
    if !ty.is_tile() {
        return None;
    }
    if let Some(what) = foreign(profile, ty) {
        return Some(what);
    }
    let fine = match (stmt, &kernel.expr(value).kind) {
        (_, ExprKind::LoadTile { place, order }) => whole(kernel, place) && native_order(ty, *order),
        (Stmt::Store { place, .. }, ExprKind::Get(..)) => whole(kernel, place),
        (Stmt::Declare(..) | Stmt::Set(..), ExprKind::Splat(one)) => {
            matches!(kernel.expr(*one).kind, ExprKind::Const(0))
        }
        (Stmt::Set(to, at, _), ExprKind::Mma(a, b, c)) => {
            register(kernel, *a).is_some() && register(kernel, *b).is_some() && register(kernel, *c) == Some((*to, at))
        }
        _ => false,
    };
    (!fine).then(|| format!("a {ty} other than loaded, set to zero, added to in place or stored"))
}

/// True for the order in which the instructions take a tile: rows, and pairs of rows of a right factor.
fn native_order(ty: Type, order: TileOrder) -> bool {
    match ty {
        Type::Tile { role: TileRole::B, .. } => order == TileOrder::Interleaved(2),
        _ => order == TileOrder::Rows,
    }
}

/// The register that an expression reads.
fn register(kernel: &Kernel, id: ExprId) -> Option<(LocalId, &[IndexId])> {
    match &kernel.expr(id).kind {
        ExprKind::Get(local, at) => Some((*local, at)),
        _ => None,
    }
}

/// True if the place has the rows and bytes of a tile register.
fn whole(kernel: &Kernel, place: &Place) -> bool {
    let bytes = kernel.memory_dtype(place.memory).bytes();
    matches!(place.shape, Shape::Tile(rows, columns) if rows == ROWS && u64::from(columns) * bytes == ROW_BYTES)
}

/// A tile that the target does not multiply.
fn foreign(profile: &TargetProfile, ty: Type) -> Option<String> {
    let Type::Tile { dtype, rows, columns, role } = ty else { return None };
    let native = profile.tiles.iter().any(|t| match role {
        TileRole::A => (dtype, rows, columns) == (t.input, t.rows, t.depth),
        TileRole::B => (dtype, rows, columns) == (t.input, t.depth, t.columns),
        TileRole::C => (dtype, rows, columns) == (t.accumulator, t.rows, t.columns),
    });
    (!native).then(|| format!("a {ty}"))
}

/// True if a block needs more tile registers at once than there are.
pub(super) fn too_many(kernel: &Kernel, block: &[Stmt]) -> bool {
    most(kernel, block) > REGISTERS
}

/// Registers that a block needs: each tile keeps its own until its block ends.
fn most(kernel: &Kernel, block: &[Stmt]) -> u32 {
    let (mut held, mut most_here) = (0, 0);
    for stmt in block {
        let inside = match stmt {
            Stmt::Let(local, _) | Stmt::Declare(local, _) if kernel.local(*local).ty.is_tile() => {
                held += count(kernel, *local);
                0
            }
            Stmt::For { body, .. } => most(kernel, body),
            Stmt::If { then, otherwise, .. } => most(kernel, then).max(most(kernel, otherwise)),
            _ => 0,
        };
        most_here = most_here.max(held + inside);
    }
    most_here
}

/// Tiles of a variable.
pub(crate) fn count(kernel: &Kernel, local: LocalId) -> u32 {
    match &kernel.local(local).kind {
        LocalKind::Reg(dims) => dims.iter().product(),
        _ => 1,
    }
}
