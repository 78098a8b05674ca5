//! Waiting for what happens soon, and small network tools.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Waits until `done` says so; panics naming `what` after 20 seconds.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited 20 s in vain for: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// A TCP port that is free now and that no other test gets: below the range from which the kernel takes its own.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// The answer (headers and body) to `GET path` from a server on this machine; waits up to 20 seconds for one.
pub(crate) fn http_get(port: u16, path: &str) -> String {
    let mut answer = String::new();
    wait_for(&format!("an answer from localhost:{port}{path}"), || {
        answer = try_get(port, path).unwrap_or_default();
        answer.starts_with("HTTP/")
    });
    answer
}

fn try_get(port: u16, path: &str) -> std::io::Result<String> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
