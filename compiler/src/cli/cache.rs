//! `mlxc cache`: what the kernel cache holds.

use super::args::Cache;
use super::{Outcome, print};
use mlxc::cache::{Contents, KernelCache};
use mlxc::report::human;
use serde_json::json;

pub fn run(a: &Cache) -> Outcome {
    let Some(cache) = KernelCache::of_user()? else {
        let text =
            if a.json { format!("{:#}\n", json!({ "folder": null })) } else { "the kernel cache is off\n".into() };
        return print(&text);
    };
    let removed = if a.clear { Some(cache.clear()?) } else { None };
    let Contents { entries, bytes } = cache.contents()?;
    let folder = cache.folder().display().to_string();
    if a.json {
        let mut out = json!({ "folder": folder, "entries": entries, "bytes": bytes, "limit_bytes": cache.limit() });
        if let Some(r) = removed {
            out["removed_entries"] = json!(r.entries);
            out["removed_bytes"] = json!(r.bytes);
        }
        return print(&format!("{out:#}\n"));
    }
    let mut out = String::new();
    if let Some(r) = removed {
        out.push_str(&format!("removed {} kernels, {}\n", r.entries, human(r.bytes)));
    }
    out.push_str(&format!("{folder}: {entries} kernels, {} of at most {}\n", human(bytes), human(cache.limit())));
    print(&out)
}
