use super::*;

fn chunks(store: &Store, id: &str) -> Vec<(u32, LogStream, Vec<u8>)> {
    let chunks = store.read_build_log(id).unwrap();
    let parts = chunks.map(|chunk| chunk.unwrap());
    parts
        .map(|chunk| (chunk.step, chunk.stream, chunk.bytes))
        .collect()
}

#[test]
fn a_log_has_every_byte_and_the_build_s_end() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let log = store
        .build_log(BuildEntry {
            dockerfile: "Dockerfile".to_owned(),
            tags: vec!["app:1".to_owned()],
            ..BuildEntry::default()
        })
        .unwrap();
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let written = vec![
        (1, LogStream::Step, b"[1/2] RUN x".to_vec()),
        (1, LogStream::Stdout, binary),
        (2, LogStream::Stderr, Vec::from("12 1 out 5\nno frame\n")),
        (2, LogStream::Note, b"CACHED".to_vec()),
    ];
    for (step, stream, bytes) in &written {
        log.write(*step, *stream, bytes).unwrap();
    }
    // While it runs.
    assert_eq!(chunks(&store, &log.id()), written);
    assert_eq!(store.builds().unwrap()[0].result, BuildResult::Running);
    log.finish(BuildResult::Completed, Some(key("image")), None)
        .unwrap();
    drop(log);
    let build = store.builds().unwrap().remove(0);
    assert_eq!(build.result, BuildResult::Completed);
    assert_eq!(
        (build.dockerfile.as_str(), build.image),
        ("Dockerfile", Some(key("image")))
    );
    assert!(build.ended.is_some());
}

#[test]
fn the_log_of_a_killed_build_stays_readable() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let log = store.build_log(BuildEntry::default()).unwrap();
    let id = log.id();
    log.write(1, LogStream::Stdout, b"first\n").unwrap();
    log.write(1, LogStream::Stdout, b"second\n").unwrap();
    drop(log);
    assert_eq!(store.builds().unwrap()[0].result, BuildResult::Killed);
    // Cut off at any byte: the whole pieces are there, and nothing else.
    let path = store.path("cache/logs").join(&id).join("log");
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let texts: Vec<Vec<u8>> = chunks(&store, &id)
            .into_iter()
            .map(|(.., text)| text)
            .collect();
        let wanted: [&[u8]; 2] = [b"first\n", b"second\n"];
        assert!(
            wanted.starts_with(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>()),
            "{cut}"
        );
        assert_eq!(texts.len() == 2, cut == whole.len());
    }
    fs::write(&path, b"\0\0\0\0not a frame").unwrap();
    assert_eq!(chunks(&store, &id), []);
}

#[test]
fn the_newest_hundred_logs_are_kept() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let build = |n: u32| {
        let log = store
            .build_log(BuildEntry {
                started: format!("2024-01-01T00:{:02}:{:02}Z", n / 60, n % 60),
                ..BuildEntry::default()
            })
            .unwrap();
        log.finish(BuildResult::Failed, None, None).unwrap();
    };
    (0..105).for_each(build);
    let builds = store.builds().unwrap();
    assert_eq!(builds.len(), 100);
    assert_eq!(builds[0].started, "2024-01-01T00:01:44Z");
    assert_eq!(builds[99].started, "2024-01-01T00:00:05Z");
}
