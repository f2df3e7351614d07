//! The page of a compilation in Chromium, from a file and without a network: it is drawn, and usable by keyboard alone.

#![allow(clippy::unwrap_used)]

use mlxc::picture::{Trace, Wanted, html, of_compilation};
use mlxc::source::Build;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const MOST: Duration = Duration::from_secs(120);

/// The page of the small Llama for three targets, with a trace of which every launch takes a microsecond more than the
/// one before.
fn page() -> &'static Path {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let mut build = Build::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kjv-llama"));
        build.targets = ["x86-64-v3", "metal", "vulkan"].map(String::from).into();
        let all = build.compile_all(&mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
        let plan = &all[0].scheduled.plan;
        let mut events = Vec::new();
        for (tid, e) in plan.entries.iter().enumerate().filter(|(_, e)| e.name != "score") {
            let args = json!({ "name": e.name, "symbols": { "S": 32, "position": 0 } });
            events.push(json!({ "name": "thread_name", "ph": "M", "tid": tid, "args": args }));
            let mut at = 0;
            for (i, l) in e.launches.iter().enumerate() {
                let name = &plan.kernels[l.kernel as usize].name;
                let args = json!({ "launch": i });
                events.push(json!({ "name": name, "ph": "X", "tid": tid, "ts": at, "dur": 1 + i, "args": args }));
                at += 1 + i;
            }
        }
        let trace = json!({ "traceEvents": events, "otherData": { "target": "x86-64-v3", "device": "a test" } });
        let trace = Trace::read(&trace.to_string()).unwrap_or_else(|e| panic!("{e}"));
        let wanted = Wanted { entry: None, trace: Some(&trace) };
        let picture = of_compilation("kjv-llama", &all, wanted).unwrap_or_else(|e| panic!("{e}"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        std::fs::write(&path, html::print(&picture)).unwrap();
        (folder, path)
    });
    path
}

/// Opens a file in Chromium; gives standard output and standard error, to which the console goes.
fn chromium(flags: &[&str], page: &Path) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut child = Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=10000"])
        .arg(format!("--user-data-dir={}", at("profile").display()))
        .args(flags)
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(File::create(at("out")).unwrap())
        .stderr(File::create(at("err")).unwrap())
        .spawn()
        .expect("Chromium starts: apt-get update && apt-get install -y chromium");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > MOST {
            let _ = child.kill();
            let _ = child.wait();
            panic!("Chromium did not end in {} s", MOST.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let read = |name: &str| String::from_utf8_lossy(&std::fs::read(at(name)).unwrap()).into_owned();
    assert!(status.success(), "Chromium ended with {status}: {}", read("err"));
    (read("out"), read("err"))
}

/// Lines that the page wrote to the console, complaints of the policy among them.
fn console(err: &str) -> Vec<&str> {
    err.lines().filter(|l| l.contains(":CONSOLE")).collect()
}

#[test]
fn the_page_draws_itself_under_its_own_policy() {
    let (dom, err) = chromium(&["--dump-dom"], page());
    assert_eq!(console(&err), Vec::<&str>::new());
    assert!(dom.matches("class=\"kernel\"").count() > 20, "the script drew no kernels");
    assert!(dom.contains("aria-label=\"Launch 0: embedding"));
    // The policy is in force, and a complaint would have been seen.
    let text = std::fs::read_to_string(page()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("foreign.html");
    std::fs::write(&copy, text.replace("</body>", "<script>document.body.id = 'foreign'</script></body>")).unwrap();
    let (dom, err) = chromium(&["--dump-dom"], &copy);
    assert!(!dom.contains("id=\"foreign\""), "a foreign script ran");
    assert!(console(&err).iter().any(|l| l.contains("Content Security Policy")), "{err}");
}

#[test]
fn the_page_is_usable_by_keyboard() {
    let text = std::fs::read_to_string(page()).unwrap();
    let drive = include_str!("drive.js");
    // A copy that also runs the test's script; what may be fetched stays the page's own policy.
    let (before, rest) = text.split_once("script-src '").unwrap();
    let (_, after) = rest.split_once('\'').unwrap();
    let text = format!("{before}script-src 'unsafe-inline'{after}");
    let text = text.replace("</body>", &format!("<script>{drive}</script></body>"));
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("driven.html");
    std::fs::write(&copy, text).unwrap();
    let (dom, err) = chromium(&["--dump-dom", "--window-size=1400,1000"], &copy);
    let said = dom.split_once("<pre id=\"driven\">").map(|(_, rest)| rest.split_once("</pre>").unwrap().0);
    assert_eq!(said, Some("[]"), "{}", console(&err).join("\n"));
}

struct Shot {
    width: usize,
    height: usize,
    /// RGB, three bytes a pixel.
    pixels: Vec<u8>,
}

impl Shot {
    fn take(flags: &[&str], width: usize, height: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shot.png");
        let (to, size) = (format!("--screenshot={}", file.display()), format!("--window-size={width},{height}"));
        chromium(&[&[to.as_str(), size.as_str()], flags].concat(), page());
        let decoder = png::Decoder::new(std::io::BufReader::new(File::open(&file).expect("a picture is taken")));
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        let channels = info.color_type.samples();
        let pixels = bytes[..info.buffer_size()].chunks_exact(channels).flat_map(|p| [p[0], p[1], p[2]]).collect();
        Shot { width: info.width as usize, height: info.height as usize, pixels }
    }

    /// Pixels of a part, by its corners.
    fn part(&self, [x0, y0, x1, y1]: [usize; 4]) -> impl Iterator<Item = [u8; 3]> + '_ {
        let at = move |x: usize, y: usize| (y * self.width + x) * 3;
        (y0..y1.min(self.height)).flat_map(move |y| {
            (x0..x1.min(self.width)).map(move |x| {
                let i = at(x, y);
                [self.pixels[i], self.pixels[i + 1], self.pixels[i + 2]]
            })
        })
    }

    fn brightness(&self) -> f64 {
        self.pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / self.pixels.len() as f64
    }
}

/// Kernels and the entry's figures are drawn, in either theme and in a narrow window.
#[test]
fn the_page_is_drawn_in_both_themes() {
    let dark = "--blink-settings=preferredColorScheme=0";
    let shots = [
        (Shot::take(&[], 1400, 1000), 200.0..256.0),
        (Shot::take(&[dark], 1400, 1000), 0.0..70.0),
        (Shot::take(&[], 900, 1000), 200.0..256.0),
    ];
    for (i, (shot, brightness)) in shots.iter().enumerate() {
        assert!(brightness.contains(&shot.brightness()), "picture {i}: brightness {}", shot.brightness());
        // The graph stands at the left, below the controls.
        let graph = [70, 340, shot.width.min(560), 980];
        let colours: BTreeSet<[u8; 3]> = shot.part(graph).collect();
        assert!(colours.len() > 100, "picture {i}: {} colours", colours.len());
        let background = shot.part([0, 0, 1, 1]).next().unwrap();
        let (mut drawn, mut warm, mut whole) = (0, 0, 0);
        for p in shot.part(graph) {
            whole += 1;
            drawn += usize::from(p != background);
            // Times are shown in orange: more red than blue.
            warm += usize::from(i32::from(p[0]) - i32::from(p[2]) > 12);
        }
        assert!(drawn * 10 > whole * 6, "picture {i}: {drawn} of {whole} pixels are drawn");
        assert!(warm * 10 > whole, "picture {i}: {warm} of {whole} pixels have the colour of times");
    }
}
