//! A bad network: stands before a registry and spoils, by a plan or at random, what passes; counts the blobs' bytes.
//!
//! One request a connection: each answer ends with its connection, so that a fault hits one exchange only.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

/// What happens to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The answer's body ends after so many bytes, with the connection.
    Cut(u64),
    /// The same with the connection reset.
    Reset(u64),
    /// Nothing comes for this time in the middle of the body.
    Stall(Duration),
    /// A well-formed answer whose body lacks its second half.
    Truncate,
    /// A bit of the body is wrong.
    Flip,
    /// The body's halves have changed places.
    Swap,
    /// `Docker-Content-Digest` is that of something else.
    WrongDigest,
    /// The registry isn't asked; this status comes.
    Status(u16),
    /// The request's body ends after so many bytes, with the connection.
    CutUpload(u64),
    /// The registry does it; its answer is lost.
    LostAnswer,
}

/// The same numbers for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Any seed will do.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// Configs have fewer bytes, layers more.
const LAYER: u64 = 10_000;

#[derive(Default)]
struct Plan {
    /// The next exchanges with large blobs get these, one each.
    next: VecDeque<Fault>,
    /// So many exchanges of a hundred get a random one.
    random: Option<(Random, u64)>,
    /// What was done, to which request.
    done: Vec<(String, Fault)>,
    /// Heads of all requests.
    requests: Vec<String>,
}

#[derive(Default)]
struct Shared {
    plan: Mutex<Plan>,
    down: AtomicU64,
    up: AtomicU64,
    over: AtomicBool,
}

/// A running proxy. It ends when it is dropped.
pub(crate) struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// One before the http server on this port.
    pub(crate) fn before(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ours.over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&ours);
                // What breaks here is a fault like any other.
                thread::spawn(move || drop(exchange(&shared, client, upstream)));
            }
        });
        Self {
            port,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Everything passes, and counting begins anew.
    pub(crate) fn behave(&self) {
        *self.shared.plan.lock().unwrap() = Plan::default();
        self.shared.down.store(0, Ordering::Relaxed);
        self.shared.up.store(0, Ordering::Relaxed);
    }

    /// Nothing more is planned.
    pub(crate) fn relent(&self) {
        self.shared.plan.lock().unwrap().next.clear();
    }

    /// The next exchanges of layers' bytes get these faults, one each.
    pub(crate) fn spoil(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.plan.lock().unwrap().next.extend(faults);
    }

    /// So many exchanges of a hundred get a random fault.
    pub(crate) fn spoil_at_random(&self, seed: u64, percent: u64) {
        self.shared.plan.lock().unwrap().random = Some((Random::new(seed), percent));
    }

    /// The faults so far, with the requests' first lines.
    pub(crate) fn faults(&self) -> Vec<(String, Fault)> {
        self.shared.plan.lock().unwrap().done.clone()
    }

    /// Heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.plan.lock().unwrap().requests.clone()
    }

    /// Bytes of blobs that went to the client.
    pub(crate) fn downloaded(&self) -> u64 {
        self.shared.down.load(Ordering::Relaxed)
    }

    /// Bytes of blobs that came from the client.
    pub(crate) fn uploaded(&self) -> u64 {
        self.shared.up.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the acceptor.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

/// A request or an answer without its body.
struct Head {
    first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let mut line = || {
            let mut line = String::new();
            match from.read_line(&mut line)? {
                0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                _ => Ok(line.trim_end().to_owned()),
            }
        };
        let first = line()?;
        let mut fields = Vec::new();
        loop {
            let text = line()?;
            match text.split_once(':') {
                Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
                None => return Ok(Self { first, fields }),
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let field = self
            .fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.fields.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.fields.push((name.to_owned(), value.into()));
    }

    fn length(&self) -> Option<u64> {
        self.get("content-length")?.parse().ok()
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding")
            .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    }

    fn text(&self) -> String {
        let fields: String = self
            .fields
            .iter()
            .map(|(n, v)| format!("{n}: {v}\r\n"))
            .collect();
        format!("{}\r\n{fields}\r\n", self.first)
    }
}

fn exchange(shared: &Shared, client: TcpStream, upstream: u16) -> io::Result<()> {
    let long = Some(Duration::from_secs(120));
    client.set_read_timeout(long)?;
    let mut input = BufReader::new(client.try_clone()?);
    let mut output = client;
    let mut request = Head::read(&mut input)?;
    let is_upload = request.first.starts_with("P") && request.first.contains("/blobs/uploads/");
    let is_blob = request.first.starts_with("GET") && request.first.contains("/blobs/sha256:");
    let large = request.is_chunked() || request.length().is_some_and(|length| length >= LAYER);
    let fault = choose(shared, &request, is_upload).or_else(|| {
        (is_upload && large)
            .then(|| planned(shared, &request))
            .flatten()
    });
    if request.get("expect").is_some() {
        output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        request
            .fields
            .retain(|(name, _)| !name.eq_ignore_ascii_case("expect"));
    }
    if let Some(Fault::Status(code)) = &fault {
        // Read to the end, so that the answer isn't lost in a reset.
        let _ = pass_body(
            &request,
            &mut input,
            &mut io::sink(),
            u64::MAX,
            &AtomicU64::new(0),
        );
        return refuse(&mut output, *code);
    }
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    server.set_read_timeout(long)?;
    request.set("Connection", "close");
    server.write_all(request.text().as_bytes())?;
    let nobody = AtomicU64::new(0);
    let counter = if is_upload { &shared.up } else { &nobody };
    let limit = match fault {
        Some(Fault::CutUpload(limit)) => limit,
        _ => u64::MAX,
    };
    if !pass_body(&request, &mut input, &mut server, limit, counter)? {
        // Both sides see a broken connection.
        reset(&server);
        reset(&output);
        return Ok(());
    }
    if fault == Some(Fault::LostAnswer) {
        server.read_to_end(&mut Vec::new())?;
        reset(&output);
        return Ok(());
    }
    let mut answered = BufReader::new(server);
    let mut answer = Head::read(&mut answered)?;
    answer.set("Connection", "close");
    let mut body = Vec::new();
    if !request.first.starts_with("HEAD") {
        read_body(&answer, &mut answered, &mut body)?;
    }
    let counter = if is_blob { &shared.down } else { &nobody };
    let large = is_blob && body.len() as u64 >= LAYER;
    let fault = fault.or_else(|| large.then(|| planned(shared, &request)).flatten());
    if let Some(Fault::Status(code)) = fault {
        return refuse(&mut output, code);
    }
    give(&mut output, answer, body, fault, counter)
}

fn refuse(output: &mut TcpStream, code: u16) -> io::Result<()> {
    let more = if code == 429 {
        "Retry-After: 1\r\n"
    } else {
        ""
    };
    let text =
        format!("HTTP/1.1 {code} Spoilt\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n");
    output.write_all(text.as_bytes())
}

/// The fault of an exchange; that of a large blob's download is planned when its size is known.
fn choose(shared: &Shared, request: &Head, is_upload: bool) -> Option<Fault> {
    let mut plan = shared.plan.lock().unwrap();
    plan.requests.push(request.text());
    let (random, percent) = plan.random.as_mut()?;
    let fault = (random.below(100) < *percent).then(|| at_random(random, is_upload))?;
    plan.done.push((request.first.clone(), fault.clone()));
    Some(fault)
}

fn planned(shared: &Shared, request: &Head) -> Option<Fault> {
    let mut plan = shared.plan.lock().unwrap();
    let fault = plan.next.pop_front()?;
    plan.done.push((request.first.clone(), fault.clone()));
    Some(fault)
}

fn at_random(random: &mut Random, is_upload: bool) -> Fault {
    const STATUSES: [u16; 6] = [401, 404, 429, 500, 502, 503];
    let bytes = random.below(600_000);
    match random.below(10) {
        0 if is_upload => Fault::CutUpload(bytes),
        0 | 1 => Fault::Cut(bytes),
        2 => Fault::Reset(bytes),
        3 => Fault::Stall(Duration::from_millis(700)),
        4 => Fault::Truncate,
        5 => Fault::Flip,
        6 => Fault::Swap,
        7 => Fault::WrongDigest,
        8 => Fault::LostAnswer,
        _ => Fault::Status(STATUSES[random.below(6) as usize]),
    }
}

/// Passes a request's body on, at most `limit` bytes of it; whether it was all.
fn pass_body(
    request: &Head,
    input: &mut impl BufRead,
    output: &mut impl Write,
    limit: u64,
    counter: &AtomicU64,
) -> io::Result<bool> {
    if !request.is_chunked() {
        let length = request.length().unwrap_or(0);
        let passed = pass(input, output, length.min(limit), counter)?;
        return Ok(passed == length);
    }
    let mut left = limit;
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
        output.write_all(line.as_bytes())?;
        if pass(input, output, size.min(left), counter)? < size {
            return Ok(false);
        }
        left -= size;
        let mut end = String::new();
        input.read_line(&mut end)?;
        output.write_all(end.as_bytes())?;
        if size == 0 {
            return Ok(true);
        }
    }
}

fn pass(
    input: &mut impl Read,
    output: &mut impl Write,
    bytes: u64,
    counter: &AtomicU64,
) -> io::Result<u64> {
    let mut input = input.take(bytes);
    let mut buffer = [0; 32 * 1024];
    let mut passed = 0;
    loop {
        let n = input.read(&mut buffer)?;
        if n == 0 {
            return Ok(passed);
        }
        output.write_all(&buffer[..n])?;
        passed += n as u64;
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

fn read_body(answer: &Head, from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    if answer.is_chunked() {
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
            from.take(size).read_to_end(body)?;
            from.read_line(&mut line)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
    match answer.length() {
        Some(length) => from.take(length).read_to_end(body),
        None => from.read_to_end(body),
    }
    .map(drop)
}

/// Gives the answer to the client, spoilt.
fn give(
    output: &mut TcpStream,
    mut answer: Head,
    mut body: Vec<u8>,
    fault: Option<Fault>,
    counter: &AtomicU64,
) -> io::Result<()> {
    let half = body.len() / 2;
    if answer.is_chunked() {
        answer
            .fields
            .retain(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
        answer.set("Content-Length", body.len().to_string());
    }
    let (mut end, mut pause) = (body.len(), None);
    match &fault {
        Some(Fault::Cut(bytes) | Fault::Reset(bytes)) => {
            end = end.min(usize::try_from(*bytes).unwrap_or(0))
        }
        Some(Fault::Stall(time)) => pause = Some(*time),
        Some(Fault::Truncate) if half > 0 => {
            body.truncate(half);
            end = half;
            answer.set("Content-Length", half.to_string());
        }
        Some(Fault::Flip) if half > 0 => body[half] ^= 1,
        Some(Fault::Swap) => body.rotate_left(half),
        Some(Fault::WrongDigest) if answer.get("docker-content-digest").is_some() => {
            answer.set(
                "Docker-Content-Digest",
                format!("sha256:{}", "5".repeat(64)),
            );
        }
        _ => {}
    }
    output.write_all(answer.text().as_bytes())?;
    let middle = if pause.is_some() { half } else { end };
    pass(&mut &body[..middle], output, u64::MAX, counter)?;
    if let Some(pause) = pause {
        thread::sleep(pause);
        pass(&mut &body[middle..end], output, u64::MAX, counter)?;
    }
    if let Some(Fault::Reset(_)) = fault {
        reset(output);
        return Ok(());
    }
    output.shutdown(Shutdown::Write)?;
    // The client has the end of it before the socket goes.
    output.set_read_timeout(Some(Duration::from_secs(5)))?;
    let _ = output.read(&mut [0]);
    Ok(())
}

/// Closing it sends a reset.
fn reset(stream: &TcpStream) {
    let now = linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // Failing, the connection ends in order.
    let _ = setsockopt(&stream.as_fd(), sockopt::Linger, &now);
}
