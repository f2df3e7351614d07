//! What runs a suite's module: an executable of this machine, or a session under the gate for Metal.

use crate::suite::tensor;
use mlxc::Executable;
use mlxc_ir::graph::interpret::Tensor;
use mlxc_ir::graph::{Function, Output};
use mlxc_msl_gate::GateSession;
use mlxc_runtime::TensorView;

/// Runs steps of a function and holds its states.
pub(crate) trait Steps {
    /// Fills a state.
    fn set_state(&mut self, name: &str, value: &Tensor);

    /// Runs the function on named inputs, host scalars among them.
    fn step(&mut self, f: &Function, symbols: &[i64], inputs: &[(&str, &Tensor)]) -> Vec<Tensor>;

    /// A state, of the type and shape of another tensor.
    fn state(&mut self, name: &str, like: &Tensor) -> Tensor;
}

fn owned(name: &str, t: &Tensor) -> mlxc_runtime::Tensor {
    let shape: Vec<u64> = t.shape.iter().map(|n| *n as u64).collect();
    let bytes = t.to_bytes();
    let view = TensorView::new(t.dtype, &shape, &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    view.to_tensor().expect("memory")
}

impl Steps for Executable {
    fn set_state(&mut self, name: &str, value: &Tensor) {
        self.session().set_state(name, owned(name, value).view()).unwrap_or_else(|e| panic!("{e}"));
    }

    fn step(&mut self, f: &Function, symbols: &[i64], inputs: &[(&str, &Tensor)]) -> Vec<Tensor> {
        let inputs: Vec<(&str, mlxc_runtime::Tensor)> = inputs.iter().map(|(n, t)| (*n, owned(n, t))).collect();
        let views: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (*n, t.view())).collect();
        let got = self.run(&views).unwrap_or_else(|e| panic!("`{}` at {symbols:?}: {e}", f.name));
        got.iter().map(tensor).collect()
    }

    fn state(&mut self, name: &str, _: &Tensor) -> Tensor {
        tensor(&self.session().state(name).unwrap_or_else(|e| panic!("{e}")))
    }
}

impl Steps for GateSession {
    fn set_state(&mut self, name: &str, value: &Tensor) {
        GateSession::set_state(self, name, &value.to_bytes()).unwrap_or_else(|e| panic!("{e}"));
    }

    fn step(&mut self, f: &Function, symbols: &[i64], inputs: &[(&str, &Tensor)]) -> Vec<Tensor> {
        let inputs: Vec<(&str, Vec<u8>)> = inputs.iter().map(|(n, t)| (*n, t.to_bytes())).collect();
        let views: Vec<(&str, &[u8])> = inputs.iter().map(|(n, b)| (*n, b.as_slice())).collect();
        let got = self.run(&f.name, symbols, &views).unwrap_or_else(|e| panic!("`{}` at {symbols:?}: {e}", f.name));
        let of = |(r, (_, bytes)): (&Output, &(String, Vec<u8>))| {
            let ty = f.ty(r.value);
            let shape: Vec<usize> = ty.shape.iter().map(|d| d.eval(symbols) as usize).collect();
            Tensor::from_bytes(ty.dtype, &shape, bytes).expect("an output holds its elements")
        };
        f.results.iter().zip(&got).map(of).collect()
    }

    fn state(&mut self, name: &str, like: &Tensor) -> Tensor {
        let bytes = GateSession::state(self, name).unwrap_or_else(|e| panic!("{e}"));
        Tensor::from_bytes(like.dtype, &like.shape, &bytes).expect("a state holds its elements")
    }
}
