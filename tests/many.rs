//! Fifty containers at once.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Feature, Sandbox, free_port, http_get, require};

const COUNT: usize = 50;

fn name(n: usize) -> String {
    format!("c{n:02}")
}

fn running(sandbox: &Sandbox) -> BTreeSet<String> {
    let output = sandbox.rctr("ps --format '{{.Names}}'").ok();
    output.lines().into_iter().map(str::to_owned).collect()
}

/// Calls `work` for each number below `COUNT`, eight at a time.
fn in_parallel(work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(n) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < COUNT)
                {
                    work(n);
                }
            });
        }
    });
}

/// Runs `work`; meanwhile `watch` is called again and again.
fn watched(watch: impl Fn() + Sync, work: impl Fn(usize) + Sync) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                watch();
            }
        });
        in_parallel(work);
        done.store(true, Ordering::Release);
        watcher.join().unwrap();
    });
}

#[test]
fn fifty_start_in_parallel_and_leave_nothing() {
    let sandbox = Sandbox::with_busybox();
    let reported: Mutex<BTreeSet<String>> = Mutex::default();
    let watch = || {
        let started = reported.lock().unwrap().clone();
        let seen = running(&sandbox);
        assert!(
            started.is_subset(&seen),
            "ps did not show {:?}",
            started.difference(&seen)
        );
    };
    watched(watch, |n| {
        sandbox
            .run(
                &format!("-d --name {}", name(n)),
                &format!("sh -c 'echo {n} > /n; exec sleep 1000'"),
            )
            .ok();
        reported.lock().unwrap().insert(name(n));
    });
    assert_eq!(running(&sandbox).len(), COUNT);
    in_parallel(|n| {
        let output = sandbox
            .rctr(&format!(
                "exec {} sh -c 'until test -s /n; do sleep 0.01; done; cat /n'",
                name(n)
            ))
            .ok();
        assert_eq!(output.line(), n.to_string());
    });
    let removed: Mutex<BTreeSet<String>> = Mutex::default();
    let watch = || {
        let gone = removed.lock().unwrap().clone();
        let seen = running(&sandbox);
        assert!(
            gone.is_disjoint(&seen),
            "ps still shows {:?}",
            gone.intersection(&seen)
        );
    };
    watched(watch, |n| {
        sandbox.rctr(&format!("rm -f {}", name(n))).ok();
        removed.lock().unwrap().insert(name(n));
    });
    assert_eq!(sandbox.rctr("ps -aq").ok().stdout, "");
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}

#[test]
fn fifty_short_ones_in_parallel_remove_themselves() {
    let sandbox = Sandbox::with_busybox();
    in_parallel(|n| {
        sandbox
            .run("--rm", &format!("sh -c 'echo {n}; exit {n}'"))
            .fails(i32::try_from(n).unwrap())
            .prints(&n.to_string());
    });
    assert_eq!(sandbox.rctr("ps -aq").ok().stdout, "");
    sandbox.assert_nothing_left();
    sandbox.assert_clean();
}

#[test]
fn one_name_is_given_once_however_many_ask() {
    let sandbox = Sandbox::with_busybox();
    let won = AtomicUsize::new(0);
    in_parallel(|_| {
        match sandbox
            .rctr("create --network none --name same busybox true")
            .output()
            .code
        {
            0 => drop(won.fetch_add(1, Ordering::Relaxed)),
            code => assert_eq!(code, 125),
        }
    });
    assert_eq!(won.into_inner(), 1);
    assert_eq!(sandbox.rctr("ps -aq").ok().lines().len(), 1);
    sandbox.assert_clean();
}

#[test]
fn images_are_tagged_and_committed_in_parallel() {
    let sandbox = Sandbox::with_busybox();
    sandbox.run("--name c1", "sh -c 'echo x > /x'").ok();
    in_parallel(|n| {
        if n % 5 == 0 {
            sandbox.rctr(&format!("commit c1 img:{n}")).ok();
        } else {
            sandbox.rctr(&format!("tag busybox img:{n}")).ok();
        }
    });
    assert_eq!(
        sandbox
            .rctr("images --format '{{.Tag}}' img")
            .ok()
            .lines()
            .len(),
        COUNT
    );
    sandbox.assert_clean();
}

#[test]
fn ten_web_servers_answer_on_ports_of_their_own() {
    require!(Feature::PrivateNetwork);
    let sandbox = Sandbox::with_busybox();
    let ports: Vec<_> = (0..10).map(|_| free_port()).collect();
    for (n, port) in ports.iter().enumerate() {
        let server =
            format!("sh -c 'mkdir /w; echo page {n} > /w/index.html; exec httpd -f -p 80 -h /w'");
        sandbox
            .rctr(&format!("run -d --name w{n} -p {port}:80 busybox {server}"))
            .ok();
    }
    for (n, port) in ports.iter().enumerate() {
        assert!(http_get(*port, "/").ends_with(&format!("page {n}\n")));
    }
    sandbox.rctr("rm -f w0 w1 w2 w3 w4 w5 w6 w7 w8 w9").ok();
    sandbox.assert_nothing_left();
}

#[test]
fn three_hundred_identities_at_once() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .rctr("create --network none --name c1 busybox true")
        .ok();
    // `diff` enters a user namespace and does little else.
    for _ in 0..15 {
        let running: Vec<_> = (0..20).map(|_| sandbox.rctr("diff c1").spawn()).collect();
        for one in running {
            let output = one.wait();
            assert_eq!(output.code, 0, "{output}");
        }
    }
}
