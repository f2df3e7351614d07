//! `mlxc convert`.

use super::args::Convert;
use super::progress::Progress;
use super::{Outcome, print};
use mlxc::report::human;

pub fn run(a: &Convert) -> Outcome {
    let build = a.build.build();
    let progress = Progress::new();
    progress.stage("reading the model");
    let made = mlxc::convert::convert(&build, &a.output, a.shard_bytes, &mut |done, all| progress.bytes(done, all))?;
    let elapsed = progress.finish();
    print(&format!(
        "wrote {}: {} tensors, {} in {} file{}, {} layers quantised, in {:.1} s\n",
        a.output.display(),
        made.tensors,
        human(made.bytes),
        made.files,
        if made.files == 1 { "" } else { "s" },
        made.quantized_layers,
        elapsed.as_secs_f64()
    ))
}
