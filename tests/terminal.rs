//! `-it`: a person at a terminal.

use crate::harness::{Sandbox, Terminal, wait_for};

#[test]
fn shell_is_interactive_and_its_exit_code_returned() {
    let sandbox = Sandbox::with_busybox();
    let mut terminal = Terminal::start(sandbox.run("-it --rm", "sh"));
    terminal.expect("# ");
    terminal.send("tty; echo $((40+2))\n");
    terminal.expect("/dev/");
    terminal.expect("42");
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait(), 5);
    sandbox.assert_nothing_left();
}

#[test]
fn size_is_passed_on_and_follows_the_window() {
    let sandbox = Sandbox::with_busybox();
    let mut terminal = Terminal::start(sandbox.run("-it --rm", "sh"));
    terminal.expect("# ");
    terminal.send("stty size\n");
    terminal.expect("24 80");
    terminal.resize(40, 100);
    terminal.send("sleep 0.3; stty size\n");
    terminal.expect("40 100");
}

#[test]
fn ctrl_c_reaches_the_foreground_command() {
    let sandbox = Sandbox::with_busybox();
    let mut terminal = Terminal::start(sandbox.run("-it --rm", "sh"));
    terminal.expect("# ");
    terminal.send("sleep 1000\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.send("\x03");
    terminal.expect("# ");
    terminal.send("echo alive\n");
    terminal.expect("alive");
}

#[test]
fn detach_keys_leave_the_container_running_and_attach_returns() {
    let sandbox = Sandbox::with_busybox();
    let mut terminal = Terminal::start(sandbox.run("-it --name c1", "sh"));
    terminal.expect("# ");
    terminal.send("\x10\x11");
    terminal.expect("read escape sequence");
    assert_eq!(terminal.wait(), 0);
    assert_eq!(sandbox.field("c1", "{{.State.Running}}"), "true");
    let mut again = Terminal::start(sandbox.rctr("attach c1"));
    again.send("echo back-$((1+1))\n");
    again.expect("back-2");
    again.send("exit 4\n");
    assert_eq!(again.wait(), 4);
}

#[test]
fn terminal_is_left_as_it_was() {
    let sandbox = Sandbox::with_busybox();
    let untouched = Terminal::start(sandbox.program("sleep 5")).settings();
    let mut terminal = Terminal::start(sandbox.run("-it --rm", "sh -c 'stty raw -echo; exit 3'"));
    assert_eq!(terminal.wait(), 3);
    assert_eq!(terminal.settings(), untouched);
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1", "sleep 1000").ok();
    let mut terminal = Terminal::start(sandbox.rctr("exec -it c1 sh"));
    terminal.expect("# ");
    terminal.send("tty; stty size\n");
    terminal.expect("/dev/pts/");
    terminal.expect("24 80");
    terminal.send("exit 3\n");
    assert_eq!(terminal.wait(), 3);
}

#[test]
fn without_a_terminal_t_is_refused() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .run("-it --rm", "sh")
        .fails(1)
        .says("the input device is not a TTY")
        .explains();
}

#[test]
fn detached_with_terminal_can_be_attached() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-itd --name c1", "sh").ok();
    let mut terminal = Terminal::start(sandbox.rctr("attach c1"));
    terminal.send("echo hello-$((2+3))\n");
    terminal.expect("hello-5");
    terminal.send("exit\n");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn exec_goes_on_after_its_detach_keys() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("-d --name c1", "sleep 1000").ok();
    let mut terminal = Terminal::start(sandbox.rctr("exec -it c1 sh"));
    terminal.expect("# ");
    terminal.send("until [ -e /go ]; do sleep 0.1; done; seq 1 50000; touch /gone; echo over\n");
    terminal.expect("echo over");
    std::thread::sleep(std::time::Duration::from_millis(200));
    terminal.send("\x10\x11");
    assert_eq!(terminal.wait(), 0);
    sandbox.rctr("exec c1 touch /go").ok();
    wait_for("the detached command", || {
        sandbox.rctr("exec c1 test -e /gone").output().code == 0
    });
    sandbox.rctr("rm -f c1").ok();
    sandbox.assert_nothing_left();
}

#[test]
fn third_ctrl_c_ends_the_caller() {
    let sandbox = Sandbox::with_busybox();
    // Process 1 has no handler: it never sees them.
    let mut terminal =
        Terminal::start(sandbox.run("--name c1", "sh -c 'echo ready; exec sleep 1000'"));
    terminal.expect("ready");
    let pause = std::time::Duration::from_millis(200);
    for _ in 0..2 {
        terminal.send("\x03");
        assert!(!terminal.shows_within("forcefully exiting", pause));
    }
    // On a busy machine two that wait for the caller are one: as a user would, another one is typed.
    let shown = (0..50).any(|_| {
        terminal.send("\x03");
        terminal.shows_within("forcefully exiting", pause)
    });
    assert!(shown, "{}", terminal.screen());
    assert_eq!(terminal.wait(), 1);
    assert_eq!(sandbox.field("c1", "{{.State.Running}}"), "true");
}
