//! What goes in and out: exit codes, stdin, stdout, published ports.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use rctr_runtime::control;
use rctr_runtime::net::NetworkPlan;
use rctr_storage::record::Status;

use crate::harness::{Sandbox, walk};

pub(crate) fn exit_codes_and_streams(s: &Sandbox) {
    let mut spec = s.spec("echo out; echo err >&2; exit 7");
    spec.attach = Some((false, true, true));
    assert_eq!(
        s.output("run", &spec, b""),
        (7, "out\n".to_owned(), "err\n".to_owned())
    );
    let state = s.state(&spec);
    assert_eq!(
        (state.status, state.exit_code, state.pid),
        (Status::Exited, 7, 0)
    );
    assert!(state.finished_at > state.started_at);
    let mut spec = s.spec("kill -TERM $$; sleep 1; kill -KILL $$; echo never");
    spec.argv = ["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]
        .map(str::to_owned)
        .to_vec();
    spec.attach = Some((false, true, true));
    assert_eq!(s.output("run", &spec, b"").0, 137);
    // Again: the same record.
    assert_eq!(s.output("run", &spec, b"").0, 137);
}

pub(crate) fn stdin_reaches_the_program(s: &Sandbox) {
    let mut spec = s.spec("cat");
    (spec.open_stdin, spec.stdin_once) = (true, true);
    spec.attach = Some((true, true, true));
    assert_eq!(s.output("run", &spec, b"hello").1, "hello");
    let mut spec = s.spec("cat; echo end");
    spec.attach = Some((false, true, true));
    assert_eq!(s.output("run", &spec, b"unheard").1, "end\n");
    // It doesn't read its input.
    let mut spec = s.spec("exit 3");
    (spec.open_stdin, spec.stdin_once) = (true, true);
    spec.attach = Some((true, true, true));
    assert_eq!(s.output("run", &spec, &vec![b'x'; 1 << 20]).0, 3);
}

pub(crate) fn large_streams_lose_nothing(s: &Sandbox) {
    let data: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut spec = s.spec("cat");
    (spec.open_stdin, spec.stdin_once) = (true, true);
    spec.attach = Some((true, true, true));
    let mut child = s
        .command("run", &spec)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let copy = data.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let mut got = Vec::new();
    // A slow reader first: the foreground waits for it.
    std::thread::sleep(Duration::from_millis(300));
    child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
}

pub(crate) fn removal_on_exit(s: &Sandbox) {
    let mut spec = s.spec("echo x > /tmp/file; exit 5");
    spec.rm = true;
    spec.attach = Some((false, true, true));
    assert_eq!(s.output("run", &spec, b"").0, 5);
    // At once, not a moment later.
    assert!(s.store.find_container(&spec.id).is_err());
    let run = s.top.join("run").join(&spec.id[..12]);
    assert!(!run.exists());
    s.until("empty tmp", || {
        walk(&s.top.join("store/tmp"))
            .iter()
            .all(|p| !p.to_string_lossy().contains("upper"))
    });
}

pub(crate) fn failures_have_dockers_codes(s: &Sandbox) {
    for (program, code) in [("nothing", 127), ("/etc", 126), ("/etc/passwd", 126)] {
        let mut spec = s.spec("");
        spec.argv = vec![program.to_owned()];
        let (got, out, _) = s.output("run", &spec, b"");
        assert_eq!(got, code, "{program}: {out}");
        let state = s.state(&spec);
        assert_eq!((state.status, state.exit_code), (Status::Created, code));
        assert!(!state.error.is_empty());
        spec = s.spec("");
        spec.argv = vec![program.to_owned()];
        spec.rm = true;
        assert_eq!(s.output("run", &spec, b"").0, code);
        assert!(s.store.find_container(&spec.id).is_err());
    }
}

pub(crate) fn published_ports_are_served(s: &Sandbox) {
    let plan = NetworkPlan {
        ports: rctr_runtime::net::parse_publish("127.0.0.1::80").unwrap(),
        ..NetworkPlan::default()
    };
    if let Err(error) = rctr_runtime::net::find_helper(None) {
        println!("   skipped: {error}");
        return;
    }
    let mut spec = s.spec("while :; do echo hello | busybox nc -l -p 80; done");
    spec.network = Some(plan);
    s.detached(&spec);
    let ports = s.state(&spec).ports;
    let port = &ports["80/tcp"].as_ref().unwrap()[0].host_port;
    s.until("an answer", || {
        let mut text = String::new();
        let connected = std::net::TcpStream::connect(format!("127.0.0.1:{port}"));
        connected
            .and_then(|mut c| c.read_to_string(&mut text))
            .is_ok()
            && text == "hello\n"
    });
    // A taken port refuses the start.
    let mut second = s.spec("exit 0");
    let word = format!("127.0.0.1:{port}:80");
    second.network = Some(NetworkPlan {
        ports: rctr_runtime::net::parse_publish(&word).unwrap(),
        ..NetworkPlan::default()
    });
    let (code, out, _) = s.output("run", &second, b"");
    assert_eq!(code, 125);
    assert!(out.contains(port.as_str()), "{out}");
    s.control(&spec, |t| control::stop(t, 9, None)).unwrap();
    assert!(s.ended(&spec).ports.is_empty());
}
