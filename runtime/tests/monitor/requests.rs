//! What is asked of a running monitor: stop, signals, wait, restarts, health.

use std::time::{Duration, Instant};

use rctr_runtime::control;
use rctr_runtime::log::ReadOptions;
use rctr_storage::config::Healthcheck;
use rctr_storage::record::{RestartPolicy, Status};

use crate::harness::Sandbox;

pub(crate) fn stop_kills_after_its_time(s: &Sandbox) {
    // Process 1 doesn't hear SIGTERM without a handler.
    let spec = s.spec("exec sleep 60");
    s.detached(&spec);
    let began = Instant::now();
    let code = s
        .control(&spec, |t| {
            control::stop(t, 15, Some(Duration::from_millis(300)))
        })
        .unwrap();
    assert_eq!(code, 137);
    assert!(
        began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(2)
    );
    let state = s.state(&spec);
    assert!(state.stopped_by_user && state.status == Status::Exited);
    assert!(!s.store.monitor_alive(&spec.id));
    let spec = s.spec("trap 'exit 9' TERM; while :; do sleep 0.05; done");
    s.detached(&spec);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(s.control(&spec, |t| control::stop(t, 15, None)).unwrap(), 9);
    assert_eq!(s.control(&spec, |t| control::stop(t, 15, None)).unwrap(), 9);
}

pub(crate) fn signals_arrive(s: &Sandbox) {
    let spec =
        s.spec("trap 'echo usr1' USR1; trap 'exit 4' INT; echo up; while :; do sleep 0.02; done");
    s.detached(&spec);
    s.until("up", || s.log(&spec, &ReadOptions::default()) == "up\n");
    s.control(&spec, |t| control::signal(t, libc::SIGUSR1))
        .unwrap();
    s.until("usr1", || {
        s.log(&spec, &ReadOptions::default()) == "up\nusr1\n"
    });
    s.control(&spec, |t| control::signal(t, libc::SIGINT))
        .unwrap();
    assert_eq!(s.ended(&spec).exit_code, 4);
    assert!(
        s.control(&spec, |t| control::signal(t, libc::SIGINT))
            .is_err()
    );
}

pub(crate) fn wait_gives_the_code(s: &Sandbox) {
    let mut spec = s.spec("sleep 0.2; exit 11");
    spec.rm = true;
    s.detached(&spec);
    assert_eq!(s.control(&spec, control::wait).unwrap(), 11);
    assert!(s.store.find_container(&spec.id).is_err());
}

pub(crate) fn restart_policies(s: &Sandbox) {
    let mut spec = s.spec("echo run; exit 6");
    spec.restart = RestartPolicy {
        name: "on-failure".to_owned(),
        maximum_retry_count: 2,
    };
    s.detached(&spec);
    let state = s.ended(&spec);
    assert_eq!((state.exit_code, state.restart_count), (6, 2));
    assert_eq!(s.log(&spec, &ReadOptions::default()), "run\nrun\nrun\n");
    let mut spec = s.spec("echo run; sleep 0.05");
    spec.restart.name = "always".to_owned();
    s.detached(&spec);
    s.until("restarts", || s.state(&spec).restart_count >= 2);
    s.control(&spec, |t| {
        control::stop(t, 15, Some(Duration::from_millis(100)))
    })
    .unwrap();
    let state = s.ended(&spec);
    assert!(state.stopped_by_user);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(s.state(&spec).status, Status::Exited);
}

pub(crate) fn health_is_checked(s: &Sandbox) {
    let mut spec = s.spec("sleep 0.5; echo > /tmp/ok; sleep 60");
    spec.health = Some(Healthcheck {
        test: vec![
            "CMD-SHELL".to_owned(),
            "echo checked; test -e /tmp/ok".to_owned(),
        ],
        interval: 100_000_000,
        retries: 2,
        ..Healthcheck::default()
    });
    s.detached(&spec);
    let status = || s.state(&spec).health.map(|h| h.status).unwrap_or_default();
    assert_eq!(status(), "starting");
    s.until("unhealthy", || status() == "unhealthy");
    s.until("healthy", || status() == "healthy");
    let health = s.state(&spec).health.unwrap();
    assert_eq!(health.log.last().unwrap().output, "checked\n");
    s.control(&spec, |t| control::stop(t, 9, None)).unwrap();
}
