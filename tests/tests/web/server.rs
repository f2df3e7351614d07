//! A static server on a port of its own, which also takes what a page posts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

/// What a path begins with, and what stands there.
pub enum Route {
    /// The files of a folder.
    Folder(PathBuf),
    /// A folder whose weights break off in the middle of every whole answer.
    Breaking(PathBuf),
    /// One file.
    Text(&'static str, String),
}

/// Routes by prefix; the longest one that fits answers.
pub type Routes = BTreeMap<String, Route>;

/// What a page said.
pub enum Said {
    /// A line for people.
    Console(String),
    /// The end.
    Result(String),
}

/// Serves until the process ends; gives the port.
pub fn serve(routes: Routes, said: Sender<Said>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (routes, said) = (Arc::new(routes), Arc::new(Mutex::new(said)));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (routes, said) = (routes.clone(), said.clone());
            // A connection that the browser drops is no concern of the test.
            std::thread::spawn(move || answer(stream, &routes, &said).unwrap_or(()));
        }
    });
    port
}

fn answer(stream: TcpStream, routes: &Routes, said: &Mutex<Sender<Said>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut length, mut from) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "range" => from = value.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().ok(),
            _ => {}
        }
    }
    if method == "POST" {
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let what = if path == "/result" { Said::Result(body) } else { Said::Console(body) };
        let _ = said.lock().unwrap().send(what);
        return head(&stream, "204 No Content", "text/plain", 0);
    }
    let path = path.split('?').next().unwrap_or_default();
    let found = routes.iter().rev().find_map(|(prefix, route)| Some((path.strip_prefix(prefix.as_str())?, route)));
    let (bytes, kind, breaks) = match found {
        Some(("", Route::Text(kind, text))) => (text.clone().into_bytes(), *kind, false),
        Some((rest, Route::Folder(folder) | Route::Breaking(folder))) => {
            let Ok(bytes) = std::fs::read(folder.join(rest)) else {
                return head(&stream, "404 Not Found", "text/plain", 0);
            };
            let kind = if rest.ends_with(".js") { "text/javascript" } else { "application/octet-stream" };
            (bytes, kind, matches!(found, Some((_, Route::Breaking(_)))) && rest.ends_with(".bin"))
        }
        _ => return head(&stream, "404 Not Found", "text/plain", 0),
    };
    let rest = &bytes[from.unwrap_or(0).min(bytes.len())..];
    head(&stream, if from.is_some() { "206 Partial Content" } else { "200 OK" }, kind, rest.len())?;
    let now = if breaks && from.is_none() { rest.len() / 2 } else { rest.len() };
    (&stream).write_all(&rest[..now])
}

fn head(mut stream: &TcpStream, status: &str, kind: &str, length: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
}
