//! A headless Chromium with an emulated GPU that runs the test page.

use super::server::{Route, Routes, Said, serve};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Ends with the test, however that ends.
struct Chromium(Child);

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu-sandbox",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Runs a test of `page.js` on what `spec` holds, and fails with what it says.
pub fn run(test: &str, spec: &Value, mut routes: Routes, most: Duration) {
    routes.insert("/".into(), Route::Text("text/html", include_str!("page.html").into()));
    routes.insert("/page.js".into(), Route::Text("text/javascript", include_str!("page.js").into()));
    routes.insert("/spec.json".into(), Route::Text("application/json", spec.to_string()));
    let (said, hear) = channel();
    let port = serve(routes, said);
    let profile = tempfile::tempdir().unwrap();
    let child = Command::new("chromium")
        .args(FLAGS)
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://127.0.0.1:{port}/?{test}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let browser = Chromium(child.expect("Chromium starts: apt-get update && apt-get install -y chromium"));
    let (start, mut console) = (Instant::now(), String::new());
    let result = loop {
        match hear.recv_timeout(most.saturating_sub(start.elapsed())) {
            Ok(Said::Console(text)) => {
                eprintln!("{test}: {text}");
                console.push_str(&format!("{text}\n"));
            }
            Ok(Said::Result(text)) => break text,
            Err(_) => panic!("the page `{test}` said nothing for {} s; its console:\n{console}", most.as_secs()),
        }
    };
    drop(browser);
    let failures: Vec<String> = serde_json::from_str(&result).unwrap_or_else(|e| panic!("{e}: {result}"));
    assert!(failures.is_empty(), "{} failures in the browser:\n{}\n{console}", failures.len(), failures.join("\n"));
}
