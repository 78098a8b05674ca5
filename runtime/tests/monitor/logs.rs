//! The log file: its format, its rotation, following it.

use std::fs;

use std::time::{Duration, Instant};

use rctr_runtime::log::{self, ReadOptions};

use crate::Spec;
use crate::harness::{Sandbox, walk};

pub(crate) fn the_log_is_dockers(s: &Sandbox) {
    let spec =
        s.spec(r#"printf 'a"<b>\tc\n\n'; echo err >&2; printf '\377x'; seq 1 5000 | tr '\n' ' '"#);
    let mut spec = Spec {
        attach: None,
        ..spec
    };
    spec.argv[2] = r#"printf 'a"<b>\tc\n\n'; sleep 0.1; echo err >&2; sleep 0.1; printf '\377x'; sleep 0.1; dd if=/dev/zero bs=20000 count=1 2>/dev/null"#.to_owned();
    s.detached(&spec);
    s.ended(&spec);
    let path = log::path(&s.store.container_dir(&spec.id));
    let text = fs::read_to_string(&path).unwrap();
    let starts = [
        r#"{"log":"a\"\u003cb\u003e\u0009c\n","stream":"stdout","time":"20"#,
        r#"{"log":"\n","stream":"stdout","time":"20"#,
        r#"{"log":"err\n","stream":"stderr","time":"20"#,
        r#"{"log":"\ufffdx\u0000\u0000"#,
    ];
    for (line, start) in text.lines().zip(starts) {
        assert!(
            line.starts_with(start) && line.ends_with("Z\"}"),
            "{line:.200}"
        );
    }
    let pieces: Vec<_> = text
        .lines()
        .skip(3)
        .map(|l| l.matches("\\u0000").count())
        .collect();
    assert_eq!(pieces, [16384 - 2, 20000 - 16384 + 2]);
    let tail = ReadOptions {
        tail: Some(3),
        ..ReadOptions::default()
    };
    assert!(s.log(&spec, &tail).starts_with("err\n\u{fffd}x"));
}

pub(crate) fn logs_rotate(s: &Sandbox) {
    let mut spec = s.spec("seq 1 2000");
    spec.log = [("max-size", "20k"), ("max-file", "3")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .into();
    s.detached(&spec);
    s.ended(&spec);
    let files = walk(&s.store.container_dir(&spec.id));
    let logs = files
        .iter()
        .filter(|f| f.file_name().unwrap().to_string_lossy().starts_with("log"));
    let sizes: Vec<_> = logs.map(|f| fs::metadata(f).unwrap().len()).collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|n| *n <= 20 * 1024 + 200), "{sizes:?}");
    let all = s.log(&spec, &ReadOptions::default());
    let lines: Vec<u32> = all.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(lines.last(), Some(&2000));
    assert!(lines.windows(2).all(|w| w[0] + 1 == w[1]));
    let tail = ReadOptions {
        tail: Some(400),
        ..ReadOptions::default()
    };
    assert_eq!(s.log(&spec, &tail).lines().next(), Some("1601"));
}

pub(crate) fn logs_are_followed(s: &Sandbox) {
    let spec = s.spec("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; printf end");
    s.detached(&spec);
    let path = log::path(&s.store.container_dir(&spec.id));
    let options = ReadOptions {
        follow: true,
        ..ReadOptions::default()
    };
    let (mut text, mut first) = (String::new(), None);
    let began = Instant::now();
    let mut alive = || s.store.monitor_alive(&spec.id);
    log::read(&path, &options, &mut alive, &mut |entry| {
        first.get_or_insert(began.elapsed());
        text.push_str(entry.text);
        Ok(())
    })
    .unwrap();
    assert_eq!(text, "1\n2\n3\n4\n5\nend");
    assert!(first.unwrap() < Duration::from_millis(300));
}
