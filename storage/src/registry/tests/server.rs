//! A small HTTP server on loopback that answers as a test wants.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// `GET /v2/`.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What is to be answered.
#[derive(Clone)]
pub(super) enum Reply {
    Whole(u16, Vec<(String, String)>, Vec<u8>),
    /// The body ends after so many bytes.
    Cut(Box<Reply>, usize),
    /// So many bytes of the answer's head are never sent: nothing comes.
    Silence(Duration),
    /// The connection is closed.
    Hangup,
    /// Zeros without an end, in chunks.
    Endless,
}

pub(super) fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply::Whole(status, Vec::new(), body.into())
}

/// A refusal as registries have it.
pub(super) fn refusal(status: u16, code: &str) -> Reply {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"said {code}"}}]}}"#);
    reply(status, body)
}

impl Reply {
    pub(super) fn with(self, name: &str, value: impl Into<String>) -> Self {
        match self {
            Self::Whole(status, mut headers, body) => {
                headers.push((name.to_owned(), value.into()));
                Self::Whole(status, headers, body)
            }
            other => other,
        }
    }

    pub(super) fn cut(self, after: usize) -> Self {
        Self::Cut(Box::new(self), after)
    }
}

/// Answers until the process ends.
pub(super) struct Server {
    /// `127.0.0.1:1234`.
    pub(super) address: String,
    pub(super) asked: Arc<Mutex<Vec<Request>>>,
    /// Bytes of bodies sent.
    pub(super) sent: Arc<Mutex<u64>>,
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

impl Server {
    pub(super) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::knowing(|_| handler)
    }

    /// The handler knows the server's address.
    pub(super) fn knowing<H: Fn(&Request) -> Reply + Send + Sync + 'static>(
        make: impl FnOnce(&str) -> H,
    ) -> Self {
        Self::start_with(make, |stream, serve| serve(Box::new(stream)))
    }

    /// With https; [`trusting`] clients trust it.
    pub(super) fn start_tls(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let config = tls_config();
        Self::start_with(
            |_| handler,
            move |stream, serve| {
                let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                serve(Box::new(rustls::StreamOwned::new(session, stream)));
            },
        )
    }

    fn start_with<H: Fn(&Request) -> Reply + Send + Sync + 'static>(
        make: impl FnOnce(&str) -> H,
        wrap: impl Fn(TcpStream, &mut dyn FnMut(Box<dyn Stream>)) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Self {
            asked: Arc::default(),
            sent: Arc::default(),
            address: address.clone(),
        };
        let handler: Arc<Handler> = Arc::new(make(&address));
        let wrap = Arc::new(wrap);
        let (asked, sent) = (Arc::clone(&server.asked), Arc::clone(&server.sent));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (handler, asked, sent) =
                    (Arc::clone(&handler), Arc::clone(&asked), Arc::clone(&sent));
                let wrap = Arc::clone(&wrap);
                thread::spawn(move || {
                    wrap(stream.unwrap(), &mut |stream| {
                        serve(stream, &*handler, &asked, &sent);
                    });
                });
            }
        });
        server
    }

    /// What was asked so far: `GET /v2/`.
    pub(super) fn lines(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(Request::line)
            .collect()
    }

    pub(super) fn last(&self) -> Request {
        self.asked.lock().unwrap().last().unwrap().clone()
    }

    /// How many requests there were whose line begins so.
    pub(super) fn count(&self, begin: &str) -> usize {
        let lines = self.lines();
        lines.iter().filter(|line| line.starts_with(begin)).count()
    }
}

pub(super) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn serve(
    stream: Box<dyn Stream>,
    handler: &Handler,
    asked: &Mutex<Vec<Request>>,
    sent: &Mutex<u64>,
) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = receive(&mut reader) {
        asked.lock().unwrap().push(request.clone());
        if !answer(reader.get_mut(), &request, handler(&request), sent) {
            break;
        }
    }
}

fn tls_config() -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("testdata/leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/leaf.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

/// Trusts the authority of [`Server::start_tls`].
pub(super) fn trusting(mut settings: super::Settings) -> super::Settings {
    let ca = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/registry/tests/testdata/ca.pem"
    );
    settings.web.ca_file = Some(ca.into());
    settings
}

/// Passes on what comes from either side, until both have ended.
pub(super) fn relay(from: TcpStream, to: &str) {
    let to = TcpStream::connect(to).unwrap();
    for (mut reader, mut writer) in [
        (from.try_clone().unwrap(), to.try_clone().unwrap()),
        (to, from),
    ] {
        thread::spawn(move || {
            let _ = std::io::copy(&mut reader, &mut writer);
            let _ = writer.shutdown(Shutdown::Write);
        });
    }
}

/// What isn't HTTP, a TLS greeting for example, is told so.
fn receive(reader: &mut BufReader<Box<dyn Stream>>) -> Option<Request> {
    let first = *reader.fill_buf().ok()?.first()?;
    if !first.is_ascii_uppercase() {
        let _ = reader
            .get_mut()
            .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        return None;
    }
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
            None => break,
        }
    }
    let length = headers.get("content-length");
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    let mut body = Vec::new();
    // One that breaks off counts with what came.
    let _ = reader.take(length as u64).read_to_end(&mut body);
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

/// Whether the connection is kept.
fn answer(stream: &mut dyn Stream, request: &Request, reply: Reply, sent: &Mutex<u64>) -> bool {
    let (reply, cut) = match reply {
        Reply::Cut(reply, after) => (*reply, Some(after)),
        reply => (reply, None),
    };
    match reply {
        Reply::Whole(status, headers, body) => {
            let length = body.len();
            let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            let body = match request.method.as_str() {
                "HEAD" => &[],
                _ => &body[..cut.unwrap_or(length).min(length)],
            };
            *sent.lock().unwrap() += body.len() as u64;
            let whole = stream.write_all(head.as_bytes()).is_ok() && stream.write_all(body).is_ok();
            whole && cut.is_none()
        }
        Reply::Silence(time) => {
            thread::sleep(time);
            false
        }
        Reply::Endless => {
            let head = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            let mut chunk = b"10000\r\n".to_vec();
            chunk.extend([b' '; 0x10000]);
            chunk.extend(b"\r\n");
            while stream.write_all(&chunk).is_ok() {
                *sent.lock().unwrap() += 0x10000;
            }
            false
        }
        Reply::Hangup | Reply::Cut(..) => false,
    }
}
