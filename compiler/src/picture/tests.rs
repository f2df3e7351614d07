//! Pictures of small graphs: hostile names, equal bytes, packages, traces.

use super::{Picture, Trace, Wanted, arena, dot, html, of_compilation, of_package};
use crate::pipeline::Compiled;
use crate::source::Build;
use crate::weights::NoWeights;
use mlxc_package::Package;
use serde_json::{Value, json};

const HOSTILE: &str = "</script><script>document.title='gone'</script><!-- ' & <b>";

fn graph(entry: &str) -> String {
    format!(
        r#"entry "{entry}" {{
  size N in 1..=16
  param "x": f32[N, 8] input
  %0 = param {{index: 0}} (): f32[N, 8]
  %1 = add (%0, %0): f32[N, 8] "<i>twice</i>"
  %2 = argsort {{axis: 0}} (%1): u32[N, 8] "order"
  %3 = cast {{dtype: f32}} (%2): f32[N, 8]
  %4 = add (%3, %1): f32[N, 8] "a -> b; }}"
  result "y" = %4
}}
"#
    )
}

/// Compiles a graph; gives the build too, for what packages hold beside code.
fn compiled(entry: &str, target: &str) -> (tempfile::TempDir, Build, Vec<Compiled>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.graph");
    std::fs::write(&path, graph(entry)).unwrap();
    let mut build = Build::new(path);
    build.targets = vec![target.into()];
    let all = build.compile_all(&mut |_| {}).unwrap();
    (folder, build, all)
}

fn picture(model: &str, entry: &str) -> Picture {
    let (_folder, _, all) = compiled(entry, "vulkan");
    of_compilation(model, &all, Wanted::default()).unwrap()
}

/// The data that a page holds.
fn data(page: &str) -> Value {
    let from = page.split_once("id=\"data\">").unwrap().1;
    serde_json::from_str(from.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn hostile_names_are_text_everywhere() {
    let p = picture(HOSTILE, HOSTILE);
    let page = html::print(&p);
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<b>") && !page.contains("<i>") && !page.contains("<!--"));
    assert!(page.contains("&lt;/script&gt;"));
    let data = data(&page);
    assert_eq!(data["model"], HOSTILE);
    assert_eq!(data["targets"][0]["entries"][0]["name"], HOSTILE);
    let svg = arena::svg(&p.targets[0].entries[0]);
    assert!(!svg.contains("<i>") && !svg.contains("<script"));
    // The page's own parts are filled once: a name that looks like one is a name.
    assert!(html::print(&picture("{{SCRIPT}}", "e")).contains("<h1>{{SCRIPT}}</h1>"));
}

#[test]
fn a_page_needs_nothing_else() {
    let page = html::print(&picture("m", "e"));
    assert!(page.contains("default-src 'none'"));
    for from_elsewhere in [" src=", "@import", "url(", "http-equiv=\"refresh\"", "https://"] {
        assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
    }
    // The only address is the name of SVG.
    assert_eq!(page.matches("http://").count(), page.matches("http://www.w3.org/2000/svg").count());
}

#[test]
fn equal_input_gives_equal_bytes() {
    let (_folder, build, all) = compiled("e", "vulkan");
    let again = build.compile_all(&mut |_| {}).unwrap();
    let draw = |all: &[Compiled]| of_compilation("m", all, Wanted::default()).unwrap();
    let (a, b) = (draw(&all), draw(&again));
    assert!(html::print(&a) == html::print(&b));
    assert!(dot::print(&a.targets[0]) == dot::print(&b.targets[0]));
    assert!(arena::svg(&a.targets[0].entries[0]) == arena::svg(&b.targets[0].entries[0]));
}

/// Braces, brackets and quotes close, and outside of quotes there is nothing of a user's.
fn check_dot(text: &str) {
    let mut open = Vec::new();
    let mut outside = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => loop {
                match chars.next().expect("a quote closes") {
                    '\\' => drop(chars.next().expect("an escape has a character")),
                    '"' => break,
                    c => assert!(c != '\n', "a quoted string is on one line"),
                }
            },
            '{' | '[' => open.push(c),
            '}' => assert_eq!(open.pop(), Some('{')),
            ']' => assert_eq!(open.pop(), Some('[')),
            c => outside.push(c),
        }
    }
    assert!(open.is_empty());
    let known = |w: &str| {
        let words = "digraph subgraph rankdir TB newrank true node edge fontname fontsize color label style shape box ellipse cylinder \
                     folder parallelogram fillcolor dashed constraint false 10";
        words.split_whitespace().any(|k| k == w)
    };
    let words = outside.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    words.for_each(|w| assert!(known(w), "`{w}` stands outside of quotes"));
}

#[test]
fn graphs_can_be_parsed() {
    let p = picture(HOSTILE, "quote ' brace } arrow -> semicolon;");
    let text = dot::print(&p.targets[0]);
    check_dot(&text);
    assert!(text.contains("->") && text.contains("subgraph"));
    // Every end of an edge is a node that has a label.
    for line in text.lines().filter(|l| l.contains("\" -> \"")) {
        for end in line.trim().trim_end_matches(';').split(" -> ") {
            let id = end.split(" [").next().unwrap();
            assert!(text.contains(&format!("{id} [label=")), "{id} in {line}");
        }
    }
}

#[test]
fn work_is_counted_and_every_kernel_has_code_and_lines() {
    let p = picture("m", "e");
    let t = &p.targets[0];
    assert!(t.counted && p.absent.is_empty());
    for k in &t.kernels {
        assert_eq!(k.code.iter().map(|c| c.language.as_str()).collect::<Vec<_>>(), ["Kernel IR", "WGSL"]);
        assert!(k.origin.iter().all(|o| o.contains("m.graph:")) && !k.origin.is_empty(), "{:?}", k.origin);
    }
    let e = &t.entries[0];
    assert_eq!(e.symbols[0].at, 16);
    for l in &e.launches {
        assert!(l.bytes > 0.0 && l.seconds.is_some_and(|s| s > 0.0) && l.bound.is_some());
    }
    assert!(e.edges.iter().all(|x| x.from < x.to) && !e.edges.is_empty());
    assert_eq!(e.arena.live.iter().max(), Some(&e.arena.lower_bound));
    assert!(p.rules.is_some_and(|r| r.len() == 1));
}

#[test]
fn a_package_is_drawn_with_what_it_holds() {
    let (_folder, mut build, all) = compiled("e", "vulkan");
    let of = |build: &Build| {
        let bytes = all[0].package_bytes(&NoWeights, &build.extras(&all).unwrap()).unwrap();
        let package = Package::from_bytes(bytes).unwrap();
        let targets: Vec<_> = package.manifest().targets.iter().collect();
        of_package("m", &package, &targets, Wanted::default()).unwrap()
    };
    let whole = of(&build);
    let direct = of_compilation("m", &all, Wanted::default()).unwrap();
    assert!(html::print(&whole) == html::print(&direct), "a package for a GPU holds everything");
    // Kernel IR that is not the package's own is not counted.
    let mut extras = build.extras(&all).unwrap();
    extras.iter_mut().filter(|(name, _)| name.starts_with("ir/kernels/")).for_each(|(_, text)| text.clear());
    let package = Package::from_bytes(all[0].package_bytes(&NoWeights, &extras).unwrap()).unwrap();
    let other = of_package("m", &package, &[&package.manifest().targets[0]], Wanted::default()).unwrap();
    assert!(!other.targets[0].counted && other.absent[0].contains("is not that of its kernels"));
    build.strip = true;
    let stripped = of(&build);
    assert!(!stripped.targets[0].counted && stripped.targets[0].refused.is_none() && stripped.rules.is_none());
    assert!(stripped.targets[0].entries[0].launches.iter().all(|l| l.bytes > 0.0 && l.seconds.is_none()));
    assert_eq!(stripped.absent.len(), 3, "{:?}", stripped.absent);
    let page = html::print(&stripped);
    assert!(page.contains("Not on this page") && page.contains("stripped"));
}

#[test]
fn a_trace_gives_times_and_sizes() {
    let (_folder, _, all) = compiled("e", "vulkan");
    let plan = &all[0].scheduled.plan;
    let trace = |target: &str, entry: &str, change: &dyn Fn(&mut Vec<Value>)| {
        let mut events = vec![json!({
            "name": "thread_name", "ph": "M", "pid": 1, "tid": 0, "args": { "name": entry, "symbols": { "N": 4 } },
        })];
        for (i, l) in plan.entries[0].launches.iter().enumerate() {
            let name = &plan.kernels[l.kernel as usize].name;
            events.push(json!({ "name": name, "ph": "X", "tid": 0, "ts": i, "dur": 0.5, "args": { "launch": i } }));
        }
        change(&mut events);
        json!({ "traceEvents": events, "otherData": { "target": target, "device": "a device" } }).to_string()
    };
    let draw = |text: &str| {
        let trace = Trace::read(text).map_err(|d| d.id)?;
        let wanted = Wanted { entry: None, trace: Some(&trace) };
        of_compilation("m", &all, wanted).map_err(|e| e.0[0].id)
    };
    let p = draw(&trace("vulkan", "e", &|_| {})).unwrap();
    let e = &p.targets[0].entries[0];
    assert_eq!(e.symbols[0].at, 4);
    assert!(e.launches.iter().all(|l| l.measured.is_some_and(|s| (s - 0.5e-6).abs() < 1e-12)));
    assert!(html::print(&p).contains("a device"));
    assert_eq!(draw("{").err(), Some(960));
    assert_eq!(draw("{\"traceEvents\": []}").err(), Some(960));
    assert_eq!(draw(&trace("vulkan", "e", &|e| e[1]["dur"] = json!(-1.0))).err(), Some(960));
    assert_eq!(draw(&trace("apple9", "e", &|_| {})).err(), Some(961));
    assert_eq!(draw(&trace("vulkan", "e", &|e| drop(e.pop()))).err(), Some(962));
    assert_eq!(draw(&trace("vulkan", "e", &|e| e[1]["name"] = json!("other"))).err(), Some(962));
    assert_eq!(draw(&trace("vulkan", "f", &|_| {})).err(), Some(964));
}

/// A buffer in the memory of another counts once, and is told with its reason.
#[test]
fn shared_memory_counts_once() {
    use mlxc_package::plan::{self, Place};
    use mlxc_package::{DType, Size};
    let buffer = |name: &str, place, [first, last]: [u32; 2], alias| plan::Buffer {
        name: name.into(),
        place,
        dtype: DType::F32,
        shape: vec![Size::constant(64)],
        bytes: 256,
        first,
        last,
        alias,
    };
    let launch = |kernel, buffers: &[u32]| plan::Launch {
        kernel,
        phase: 0,
        block: None,
        grid: Vec::new(),
        buffers: buffers.to_vec(),
        scalars: Vec::new(),
    };
    let kernel = |name: &str, buffers: &[plan::Access]| plan::Kernel {
        name: name.into(),
        comment: "add, multiply".into(),
        template: "map".into(),
        origin: vec!["model.rs:7".into()],
        buffers: buffers.to_vec(),
        constant: Vec::new(),
        scalars: 0,
        phases: Vec::new(),
    };
    let alias = plan::Alias { of: 0, reason: "its last reader <writes> it".into() };
    let entry = plan::Entry {
        name: "e".into(),
        symbols: Vec::new(),
        requires: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        buffers: vec![
            buffer("a", Place::Arena { offset: 0 }, [0, 1], None),
            buffer("b", Place::Arena { offset: 0 }, [1, 2], Some(alias)),
            buffer("c", Place::Arena { offset: 256 }, [2, 2], None),
        ],
        launches: vec![launch(0, &[0]), launch(1, &[0, 1]), launch(1, &[1, 2])],
        arena: plan::Arena { bytes: 512, lower_bound: 512, naive: 768, ..plan::Arena::default() },
    };
    let kernels =
        vec![kernel("make", &[plan::Access::Write]), kernel("pass", &[plan::Access::Read, plan::Access::Write])];
    let e = super::entry(&plan::Plan { kernels, ..plan::Plan::default() }, &entry, None);
    assert_eq!((e.arena.live.as_slice(), e.arena.peak), (&[256, 256, 512][..], 2));
    assert_eq!(e.edges.iter().map(|x| (x.from, x.to, x.buffer)).collect::<Vec<_>>(), [(0, 1, 0), (1, 2, 1)]);
    let svg = arena::svg(&e);
    assert!(svg.contains("in the memory of another: its last reader &lt;writes&gt; it"), "{svg}");
    assert_eq!(svg.matches(" alias\"").count(), 1);
}
