//! Experts as checkpoints store them: one tensor for each expert, or all in one.

/// The tensors that make up a layer's stacked weight `….switch_mlp.NAME.weight`, one for each expert, under the first
/// naming of which `known` has the first: `….experts.0.NAME.weight`, or `w1`, `w3` and `w2` for gate, up and down.
pub(crate) fn parts(name: &str, experts: i64, known: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let (front, back) = name.split_once(".switch_mlp.")?;
    let (projection, kind) = back.split_once('.')?;
    let short = match projection {
        "gate_proj" => "w1",
        "up_proj" => "w3",
        "down_proj" => "w2",
        _ => return None,
    };
    [projection, short].into_iter().find_map(|p| {
        let part = |i: i64| format!("{front}.experts.{i}.{p}.{kind}");
        known(&part(0)).then(|| (0..experts).map(part).collect())
    })
}
