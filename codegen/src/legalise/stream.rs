//! Nontemporal stores need whole, aligned vectors: any other loses its hint.

use mlxc_ir::kernel::{Facts, Kernel, Shape, Step, Stmt};

use super::alignment;

pub(super) fn run(kernel: &mut Kernel, facts: &Facts) {
    let mut steps = std::mem::take(&mut kernel.steps);
    visit_steps(&mut steps, kernel, facts);
    kernel.steps = steps;
}

fn visit_steps(steps: &mut [Step], kernel: &Kernel, facts: &Facts) {
    for step in steps {
        match step {
            Step::Phase(phase) => visit(&mut phase.body, kernel, facts),
            Step::Serial { body, .. } => visit_steps(body, kernel, facts),
        }
    }
}

fn visit(block: &mut [Stmt], kernel: &Kernel, facts: &Facts) {
    for stmt in block {
        match stmt {
            Stmt::Store { place, nontemporal, .. } => {
                let bytes = kernel.place_type(place).bits() / 8;
                let whole = matches!(place.shape, Shape::Vector(_));
                *nontemporal &= whole && u64::from(alignment(kernel, facts, place)) >= bytes;
            }
            Stmt::For { body, .. } => visit(body, kernel, facts),
            Stmt::If { then, otherwise, .. } => {
                visit(then, kernel, facts);
                visit(otherwise, kernel, facts);
            }
            _ => {}
        }
    }
}
