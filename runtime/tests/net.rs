//! A private network on the real kernel, with each helper that is installed: ports, addresses, isolation, ends.
//!
//! What is missing here is skipped with a line on stderr, `skipped: …`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rctr_runtime::net::{Helper, find_helper, host_gateway};

/// The example program `net`, beside the test's own.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/net")
}

#[expect(clippy::print_stderr, reason = "a skip is loud")]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process in user and network namespaces of its own: it is `net serve 8080`.
struct Namespace {
    child: Ended,
}

impl Namespace {
    fn new() -> Option<Self> {
        let child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--"])
            .args(["sh", "-c", "echo up; exec sleep 1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            skip("no unshare(1)");
            return None;
        };
        let mut child = Ended(child);
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line != "up\n" {
            skip("user namespaces are not allowed here");
            return None;
        }
        Some(Self { child })
    }

    fn pid(&self) -> u32 {
        self.child.0.id()
    }

    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--preserve-credentials",
            "-U",
            "-n",
            "-t",
            &self.pid().to_string(),
            "--",
        ]);
        command
            .arg(program())
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    fn serve(&self) -> Ended {
        let mut server = Ended(self.inside(&["serve", "8080"]).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(server.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "serving\n");
        server
    }

    fn probe(&self, address: SocketAddr) -> String {
        let output = self
            .inside(&["probe", &address.to_string()])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// Stands for the monitor: `net PID …`.
struct Attached {
    monitor: Ended,
    output: BufReader<ChildStdout>,
    said: String,
}

impl Attached {
    fn new(namespace: &Namespace, helper: Helper, ports: &[&str]) -> Self {
        let mut command = Command::new(program());
        command
            .arg(namespace.pid().to_string())
            .args(["--helper", helper.program()]);
        ports.iter().for_each(|port| {
            command.args(["-p", port]);
        });
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut monitor = Ended(child);
        let mut output = BufReader::new(monitor.0.stdout.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("ready\n") && output.read_line(&mut said).unwrap() > 0 {}
        Self {
            monitor,
            output,
            said,
        }
    }

    fn port(&self, key: &str) -> u16 {
        let json = self
            .said
            .lines()
            .find_map(|l| l.strip_prefix("ports "))
            .expect(&self.said);
        let ports: serde_json::Value = serde_json::from_str(json).unwrap();
        ports[key][0]["HostPort"].as_str().unwrap().parse().unwrap()
    }

    fn helpers(&self) -> Vec<u32> {
        let pids = self.said.lines().find_map(|l| l.strip_prefix("pids "));
        serde_json::from_str(pids.expect(&self.said)).unwrap()
    }

    /// Kills one of its helpers and has it mended: the helpers afterwards.
    fn kill_and_mend(&mut self, pid: u32) -> Vec<u32> {
        let status = Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        let input = self.monitor.0.stdin.as_mut().unwrap();
        input.write_all(b"\n").unwrap();
        self.said.clear();
        self.output.read_line(&mut self.said).unwrap();
        self.helpers()
    }
}

/// With every helper that is there, in a fresh namespace; `None` was said why.
fn each_helper(test: impl Fn(Helper, &Namespace)) {
    for helper in [Helper::Slirp4netns, Helper::Pasta] {
        if find_helper(Some(helper)).is_err() {
            skip(&format!("{} is not installed", helper.program()));
        } else if !std::path::Path::new("/dev/net/tun").exists() {
            skip("no /dev/net/tun");
        } else if let Some(namespace) = Namespace::new() {
            test(helper, &namespace);
        }
    }
}

fn host_address() -> Option<IpAddr> {
    let address = host_gateway();
    if address.is_none() {
        skip("this host has no address but loopback");
    }
    address
}

fn first_line(address: SocketAddr) -> String {
    let mut line = String::new();
    BufReader::new(TcpStream::connect(address).unwrap())
        .read_line(&mut line)
        .unwrap();
    line.trim().to_owned()
}

fn ask(address: SocketAddr) -> String {
    let local = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(local).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // Connected: an answer from another address would not arrive.
    socket.connect(address).unwrap();
    socket.send(b"?").unwrap();
    let mut buffer = [0; 200];
    let got = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..got]).into_owned()
}

#[test]
fn published_ports_show_the_client_address() {
    each_helper(|helper, namespace| {
        let _server = namespace.serve();
        let attached = Attached::new(namespace, helper, &["8080", "8080/udp"]);
        let (tcp, udp) = (attached.port("8080/tcp"), attached.port("8080/udp"));
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(first_line(local(tcp)), "peer 10.0.2.2");
        assert_eq!(ask(local(udp)), "peer 10.0.2.2");
        if let Some(host) = host_address() {
            assert_eq!(first_line((host, tcp).into()), format!("peer {host}"));
            assert_eq!(ask((host, udp).into()), format!("peer {host}"));
        }
        if TcpListener::bind("[::1]:0").is_ok() {
            // The server may listen on IPv4 only, then the gateway calls.
            let said = first_line(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], tcp)));
            assert!(
                ["peer fd8e:7263:7472::2", "peer 10.0.2.2"].contains(&said.as_str()),
                "{said}"
            );
        }
    });
}

#[test]
fn much_data_passes_a_published_port_unchanged() {
    each_helper(|helper, namespace| {
        let _server = namespace.serve();
        let attached = Attached::new(namespace, helper, &["127.0.0.1::8080"]);
        let client = TcpStream::connect(("127.0.0.1", attached.port("8080/tcp"))).unwrap();
        let data: Vec<u8> = (0..20_000_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let (mut writer, sent) = (client.try_clone().unwrap(), data.clone());
        let sender = std::thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut reader = BufReader::new(client);
        reader.read_line(&mut String::new()).unwrap();
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        sender.join().unwrap();
        assert!(
            received == data,
            "{} of {} bytes",
            received.len(),
            data.len()
        );
    });
}

#[test]
fn many_clients_at_once_are_served() {
    each_helper(|helper, namespace| {
        let _server = namespace.serve();
        let attached = Attached::new(namespace, helper, &["127.0.0.1::8080"]);
        let address = SocketAddr::from(([127, 0, 0, 1], attached.port("8080/tcp")));
        let clients: Vec<_> = (0..200)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        for (number, mut client) in clients.into_iter().enumerate() {
            client.write_all(format!("{number}\n").as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut said = String::new();
            client.read_to_string(&mut said).unwrap();
            assert_eq!(said, format!("peer 10.0.2.2\n{number}\n"));
        }
    });
}

#[test]
fn the_way_out_leads_to_the_host_but_not_to_its_loopback() {
    each_helper(|helper, namespace| {
        let _attached = Attached::new(namespace, helper, &[]);
        let hello = |address: IpAddr| {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            std::thread::spawn(move || {
                listener
                    .incoming()
                    .flatten()
                    .for_each(|mut c| drop(c.write_all(b"hello\n")))
            });
            port
        };
        let port = hello([127, 0, 0, 1].into());
        assert_eq!(first_line(([127, 0, 0, 1], port).into()), "hello");
        for address in [[127, 0, 0, 1], [10, 0, 2, 2], [10, 0, 2, 3]] {
            assert_ne!(
                namespace.probe((address, port).into()),
                "hello",
                "{address:?}"
            );
        }
        if let Some(host) = host_address() {
            let port = hello(host);
            assert_eq!(namespace.probe((host, port).into()), "hello");
        }
    });
}

#[test]
fn a_taken_port_is_refused_before_anything_starts() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    if find_helper(None).is_err() {
        return skip("neither slirp4netns nor pasta is installed");
    }
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let attached = Attached::new(
        &namespace,
        find_helper(None).unwrap().0,
        &[&format!("{port}:80")],
    );
    let message = format!("error cannot publish 0.0.0.0:{port}/tcp: address already in use");
    assert!(attached.said.starts_with(&message), "{}", attached.said);
}

#[test]
fn helpers_that_die_start_again() {
    each_helper(|helper, namespace| {
        let _server = namespace.serve();
        let mut attached = Attached::new(namespace, helper, &["8080"]);
        let port = attached.port("8080/tcp");
        let before = attached.helpers();
        for (at, pid) in before.iter().enumerate() {
            let after = attached.kill_and_mend(*pid);
            assert_eq!(after.len(), 2, "{}", attached.said);
            assert_ne!(after[at], *pid);
            first_line(([127, 0, 0, 1], port).into());
        }
        if let Some(host) = host_address() {
            let listener = TcpListener::bind((host, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            std::thread::spawn(move || {
                listener
                    .incoming()
                    .flatten()
                    .for_each(|mut c| drop(c.write_all(b"hello\n")))
            });
            assert_eq!(namespace.probe(address), "hello");
        }
        // What was started again ends with the monitor as well.
        assert_end_with_the_monitor(helper, attached);
    });
}

#[test]
fn helpers_end_when_the_monitor_is_killed() {
    each_helper(|helper, namespace| {
        let attached = Attached::new(namespace, helper, &["8080"]);
        assert_end_with_the_monitor(helper, attached);
    });
}

fn assert_end_with_the_monitor(helper: Helper, attached: Attached) {
    let helpers = attached.helpers();
    assert_eq!(helpers.len(), 2, "{}", attached.said);
    drop(attached.monitor); // SIGKILL
    let deadline = Instant::now() + Duration::from_secs(5);
    let alive = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        state.is_some_and(|state| state != 'Z')
    };
    while helpers.iter().any(alive) {
        assert!(Instant::now() < deadline, "{helper:?} outlived its monitor");
        std::thread::sleep(Duration::from_millis(10));
    }
}
