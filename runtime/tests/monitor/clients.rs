//! Clients that are killed, stopped, many, or closed.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rctr_runtime::log::ReadOptions;
use rctr_storage::record::Status;

use crate::Spec;
use crate::harness::Sandbox;

fn spawn_up(s: &Sandbox, verb: &str, spec: &Spec) -> Child {
    let child = s.command(verb, spec).stdin(Stdio::piped()).spawn().unwrap();
    s.until("running", || {
        s.store
            .read_container(&spec.id)
            .is_ok_and(|c| c.state.status == Status::Running)
    });
    child
}

pub(crate) fn a_killed_client_hurts_nobody(s: &Sandbox) {
    let mut spec = s.spec("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done");
    spec.attach = Some((false, true, true));
    let mut child = spawn_up(s, "run", &spec);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(s.ended(&spec).exit_code, 0);
    assert!(s.log(&spec, &ReadOptions::default()).ends_with("8\n"));
}

pub(crate) fn a_stopped_client_is_left_out(s: &Sandbox) {
    let spec = s.spec("sleep 0.5; yes 0123456789abcdef | head -c 3000000; echo; echo done");
    s.detached(&spec);
    let mut attached = s.command("attach", &spec).spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(attached.id()).unwrap());
    std::thread::sleep(Duration::from_millis(200));
    nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
    s.until_for("the end of the log", Duration::from_secs(20), || {
        let tail = ReadOptions {
            tail: Some(1),
            ..ReadOptions::default()
        };
        s.log(&spec, &tail) == "done\n"
    });
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
    attached.wait().unwrap();
    assert_eq!(s.ended(&spec).exit_code, 0);
    assert_eq!(
        s.log(&spec, &ReadOptions::default()).len(),
        3_000_000 + 1 + 5
    );
}

pub(crate) fn several_clients_see_the_same(s: &Sandbox) {
    let mut spec =
        s.spec("while read line; do echo \"got $line\"; test $line = end && exit 2; done");
    spec.open_stdin = true;
    s.detached(&spec);
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            s.command("attach", &spec)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    for (n, client) in clients.iter_mut().enumerate() {
        client
            .stdin
            .as_mut()
            .unwrap()
            .write_all(format!("{n}\n").as_bytes())
            .unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    // The end of one client's input isn't the end of the program's.
    drop(clients[0].stdin.take());
    std::thread::sleep(Duration::from_millis(50));
    clients[1]
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"end\n")
        .unwrap();
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "got 0\ngot 1\ngot 2\ngot end\n"
        );
        assert_eq!(output.status.code(), Some(2));
    }
}

pub(crate) fn closed_output_ends_the_client_only(s: &Sandbox) {
    let mut spec = s.spec("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; exit 3");
    spec.attach = Some((false, true, true));
    let mut child = spawn_up(s, "run", &spec);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(141));
    assert_eq!(s.ended(&spec).exit_code, 3);
}

pub(crate) fn signals_to_the_client_are_forwarded(s: &Sandbox) {
    let mut spec = s.spec("trap 'echo term; exit 8' TERM; echo up; while :; do sleep 0.02; done");
    spec.attach = Some((false, true, true));
    let child = spawn_up(s, "run", &spec);
    s.until("up", || s.log(&spec, &ReadOptions::default()) == "up\n");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(8), &b"up\nterm\n"[..])
    );
}

pub(crate) fn terminals_have_size_and_detach_keys(s: &Sandbox) {
    let size = nix::pty::Winsize {
        ws_row: 33,
        ws_col: 77,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = nix::pty::openpty(Some(&size), None).unwrap();
    let before = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
    let mut spec =
        s.spec("stty size; test -t 0 && echo tty; while read x; do echo \"<$x>\"; stty size; done");
    (spec.tty, spec.open_stdin) = (true, true);
    spec.attach = Some((true, true, false));
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = s
        .command("run", &spec)
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap();
    let mut master = File::from(pty.master);
    let mut seen = String::new();
    let mut expect = |master: &mut File, text: &str| {
        let end = Instant::now() + Duration::from_secs(5);
        let mut buffer = [0; 1024];
        while !seen.contains(text) {
            assert!(Instant::now() < end, "never {text:?} in {seen:?}");
            let length = master.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        seen.clear();
    };
    expect(&mut master, "33 77\r\ntty\r\n");
    rctr_runtime::sys::set_terminal_size(std::os::fd::AsFd::as_fd(&master), 40, 100).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGWINCH).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    master.write_all(b"a\x10b\n").unwrap();
    expect(&mut master, "<a\u{10}b>\r\n40 100\r\n");
    master.write_all(b"\x10\x11").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(200));
    let after = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
    assert_eq!(
        (before.local_flags, before.input_flags),
        (after.local_flags, after.input_flags)
    );
    assert_eq!(s.state(&spec).status, Status::Running);
    // Once more, now by attach, until the end.
    let mut child = s
        .command("attach", &spec)
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(150));
    master.write_all(b"again\n").unwrap();
    expect(&mut master, "<again>");
    master.write_all(b"\x04").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(s.ended(&spec).exit_code, 0);
}
